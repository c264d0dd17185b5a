//! Writes the packets that other implementations can be checked against: `cargo run -p sphinx --example vectors`.

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    std::fs::create_dir_all(&folder)?;
    for (name, content) in common::vectors::files() {
        std::fs::write(folder.join(name), content)?;
        println!("{}", folder.join(name).display());
    }
    Ok(())
}

//! Writes `vectors/link.json` and the first inputs of the fuzz corpora: `cargo run -p link --example vectors`.

#[path = "../tests/common/by_hand.rs"]
mod by_hand;
#[path = "../tests/common/checks.rs"]
mod checks;
#[path = "../tests/common/vector_file.rs"]
mod vector_file;

fn main() -> std::io::Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let text = serde_json::to_string_pretty(&vector_file::vectors())?;
    std::fs::write(format!("{root}vectors/link.json"), text + "\n")?;
    let seeds = checks::seeds();
    for (target, name, bytes) in &seeds {
        std::fs::write(
            format!("{root}../../bench/fuzz/corpus/{target}/{name}"),
            bytes,
        )?;
    }
    println!(
        "vectors/link.json and {} inputs in bench/fuzz/corpus",
        seeds.len()
    );
    Ok(())
}

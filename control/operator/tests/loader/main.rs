//! The loader against this kernel, in network namespaces. Needs root:
//! `cargo test --workspace --test loader -- --ignored --test-threads=1`

mod daemon;
mod interface;
mod keys;
mod late;
mod node;
mod program;
#[path = "../programs/mod.rs"]
mod programs;
mod world;
mod xsk;

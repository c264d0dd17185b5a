//! The loader against this kernel, in network namespaces. Needs root:
//! `cargo test -p operator --test loader -- --ignored`

mod daemon;
mod node;
mod program;
#[path = "../programs/mod.rs"]
mod programs;
mod world;
mod xsk;

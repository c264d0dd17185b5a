//! The loader against this kernel, in network namespaces. Needs root:
//! `cargo test -p control --test loader -- --ignored`

mod daemon;
mod node;
mod program;
mod world;
mod xsk;

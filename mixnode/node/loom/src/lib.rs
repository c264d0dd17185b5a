//! The very files of node and port that rely on memory order, compiled over the model checker's atomics, so that the
//! tests here run every interleaving of threads through them. A crate of its own, because nothing that is shipped may
//! be built with those atomics.

pub mod replay;

#[path = "../../../port/src/xsk/rings.rs"]
pub mod rings;

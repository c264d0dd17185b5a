//! Inner parts of a node, each alone, for who works on them: figures for reports come from `mixbench`.

use criterion::{criterion_group, criterion_main};

mod hop;
mod link;
mod pool;
mod replay;
mod wheel;

criterion_group!(
    inner,
    hop::all,
    link::all,
    pool::all,
    replay::all,
    wheel::all
);
criterion_main!(inner);

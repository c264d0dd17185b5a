//! The control daemon `mixctld`: beside a node it loads the XDP program ([`node`]). What an authority does with its
//! folder ([`authority`]) lies beside it, for the lab and for an authority's own process: the two roles never meet in
//! one.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        // They panic when nobody reads: see crate `program`.
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

pub mod authority;
pub mod exit;
pub mod node;

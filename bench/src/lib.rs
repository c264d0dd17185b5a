//! mixbench: measurements of the mixnet's parts and of the whole, and reports on them.

pub mod crypto;

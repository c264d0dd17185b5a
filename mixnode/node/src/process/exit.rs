//! Exit codes, as `sysexits.h` has them and operators expect.

/// Ended as asked.
pub const OK: u8 = 0;
/// Wrong usage of the command line (EX_USAGE).
pub const USAGE: u8 = 64;
/// The operating system refused something: port in use, no memory, no descriptors (EX_OSERR).
pub const OS: u8 = 71;
/// A permission is missing (EX_NOPERM).
pub const PERMISSION: u8 = 77;
/// The configuration is wrong (EX_CONFIG).
pub const CONFIG: u8 = 78;

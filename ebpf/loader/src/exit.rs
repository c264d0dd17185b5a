//! Exit codes, as `sysexits.h` has them and operators expect.

/// Wrong usage (EX_USAGE).
pub const USAGE: u8 = 64;
/// A bug or a result that is not what it must be (EX_SOFTWARE).
pub const SOFTWARE: u8 = 70;
/// The system refused: port in use, no descriptors, no memory (EX_OSERR).
pub const OS: u8 = 71;
/// No permission (EX_NOPERM).
pub const PERMISSION: u8 = 77;
/// A configuration that can't be used (EX_CONFIG).
pub const CONFIG: u8 = 78;

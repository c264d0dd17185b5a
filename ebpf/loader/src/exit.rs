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

/// An error with the exit code it ends the process with. The message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One of this module's codes.
    pub code: u8,
    /// One or two sentences for the operator.
    pub message: String,
}

impl Failure {
    /// A failure with `code`.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => PERMISSION,
            _ => OS,
        };
        Self::new(code, error.to_string())
    }
}

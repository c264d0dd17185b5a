//! How a process ends: exit codes, as `sysexits.h` has them and operators expect, with what is said about it.

pub use loader::exit::{CONFIG, OS, PERMISSION, SOFTWARE, USAGE};

use handover::protocol::Refusal;
use loader::LoaderError;

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

impl From<LoaderError> for Failure {
    fn from(error: LoaderError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}

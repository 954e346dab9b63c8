//! The failure of a command.

/// Why a command ends with another status than 0.
#[derive(Debug)]
pub struct Failure {
    /// Empty: all was said already.
    pub(crate) message: String,
    /// Exit status of the process.
    pub(crate) status: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, status: 1 }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

//! The error of reading or writing a frame.

use std::fmt;

/// Why bytes are no frame, or a frame cannot become bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than the envelope's head.
    Short,
    /// This many bytes, more than the kind may have.
    TooLong(usize),
    /// Not a version that is spoken here, or too old a version for this kind.
    Version(u8),
    /// So many bytes after the end.
    Trailing(usize),
    /// Breaks a rule that the README has for the content.
    Content(&'static str),
    /// The codec's own words.
    Codec(String),
}

impl Malformed {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::TooLong(_) => "too_long",
            Self::Version(_) => "version",
            Self::Trailing(_) => "trailing",
            Self::Content(_) => "content",
            Self::Codec(_) => "codec",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("shorter than an envelope"),
            Self::TooLong(len) => write!(f, "{len} bytes are too long for this kind of frame"),
            Self::Version(version) => write!(f, "protocol version {version} is not spoken here"),
            Self::Trailing(count) => write!(f, "{count} bytes after the end"),
            Self::Content(why) => f.write_str(why),
            Self::Codec(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Malformed {}

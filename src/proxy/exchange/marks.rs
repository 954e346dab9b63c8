//! Values with which the gateway marks messages. Made once per worker.

use http::Version;
use http::header::HeaderValue;

/// The values of one worker.
pub struct Marks {
    /// `Server` of responses.
    pub server: HeaderValue,
    /// For HTTP/1.0, 1.1 and 2.
    via: [HeaderValue; 3],
}

impl Marks {
    pub fn new() -> Self {
        let mark = |before: &str| {
            let text = format!("{before}tidegate/{}", crate::VERSION);
            HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("tidegate"))
        };
        Self { server: mark(""), via: [mark("1 "), mark("1.1 "), mark("2 ")] }
    }

    /// `Via` for a message that arrived by this version.
    pub fn via(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_10 | Version::HTTP_09 => &self.via[0],
            Version::HTTP_2 => &self.via[2],
            _ => &self.via[1],
        }
    }
}

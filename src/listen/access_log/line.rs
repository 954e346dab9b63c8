//! One line of an access log, before it is formatted.

use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};

/// One exchange, as the line needs it. Cheap to make: reference-counted parts, formatted by the writer thread.
#[derive(Debug)]
pub struct Line {
    pub remote: IpAddr,
    pub at: SystemTime,
    pub method: Method,
    /// Path and query as sent.
    pub target: Bytes,
    pub version: Version,
    pub status: u16,
    pub body_bytes: u64,
    pub referer: Option<HeaderValue>,
    pub user_agent: Option<HeaderValue>,
    /// 32 lower-case hexadecimal characters.
    pub request_id: [u8; 32],
}

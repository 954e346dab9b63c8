//! Access log lines, written by a thread of their own; a request never waits for it. When the queue is full the line
//! is dropped and counted.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use http::{HeaderValue, Method, Version};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}

/// One exchange, as the line needs it. Cheap to make: reference-counted parts, formatted by the writer thread.
#[derive(Debug)]
pub struct Line {
    pub remote: IpAddr,
    pub at: SystemTime,
    pub method: Method,
    /// Path and query as sent.
    pub target: http::Uri,
    pub version: Version,
    pub status: u16,
    pub body_bytes: u64,
    pub referer: Option<HeaderValue>,
    pub user_agent: Option<HeaderValue>,
    /// 32 lower-case hexadecimal characters.
    pub request_id: [u8; 32],
}

/// A handle that any number of threads write through.
#[derive(Clone, Debug)]
pub struct AccessLog {}

impl AccessLog {
    /// Opens the target and starts the writer thread; `Off` starts none.
    pub fn open(target: Target) -> io::Result<Self> {
        let _ = target;
        unimplemented!()
    }

    /// Queues the line, or counts it as dropped.
    pub fn write(&self, line: Line) {
        let _ = line;
    }

    /// Opens the file again (SIGHUP after rotation).
    pub fn reopen(&self) {}

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        0
    }

    /// Writes out what is queued; at most `limit` long.
    pub fn flush(&self, limit: std::time::Duration) {
        let _ = limit;
    }
}

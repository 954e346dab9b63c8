//! Where the body of a request comes from: a client connection, whatever it speaks.

use std::task::{Context, Poll};

use http::HeaderMap;
use tokio::time::Instant;

use crate::http1::body::Slices;

/// The body of one request as it arrives.
pub trait BodySource {
    /// Reads until decoded data is ready, or the body has ended.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>>;

    /// Bytes of decoded data.
    fn ready(&self) -> usize;

    /// The decoded data.
    fn slices<'a>(&'a self, into: &mut Slices<'a>);

    /// Whether nothing follows the decoded data that is ready: no data, and no trailers.
    fn is_last(&self) -> bool;

    /// Passes over decoded data that was used.
    fn consume(&mut self, length: usize);

    /// Trailer fields, once, at the end.
    fn take_trailers(&mut self) -> Option<HeaderMap>;

    /// When a wait for more of the body, which has begun or begins now, fails.
    fn fails_at(&mut self) -> Instant;

    /// Ready when the client has left. Called only when the whole body has been read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Why a client's body could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFault {
    /// Longer than `client_max_body_size`.
    TooLarge,
    /// No byte for longer than the client is given.
    Timeout,
    /// The connection was closed, or the framing is not HTTP; the text says which, for logs.
    Broken(String),
    /// The client has left; nothing can be sent to it.
    Gone,
}

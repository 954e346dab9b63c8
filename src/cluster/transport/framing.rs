//! Frames on a stream that carries several: a length (u32, big endian) before each.
//!
//! A length is checked against what the carrier allows, and memory is asked for as bytes arrive, not as they are promised.

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tidegate_proto::codec::Decoded;
use tidegate_proto::frame::Frame;
use tidegate_proto::kind::Kind;

use crate::cluster::transport::figures::Counters;

/// Why no frame came.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection or the stream broke; nobody is to blame.
    Broken,
    /// The peer sent what it must not, in a word for metrics.
    Bad(&'static str),
}

/// The next frame that this version knows. `None`: the stream was finished between frames.
pub async fn next(stream: &mut RecvStream, len_max: usize, counters: &Counters) -> Result<Option<Frame>, Failure> {
    loop {
        let Some(bytes) = next_bytes(stream, len_max).await? else { return Ok(None) };
        if let Some(frame) = decode(&bytes, counters)? {
            return Ok(Some(frame));
        }
    }
}

/// The frame in `bytes`; `None` for a kind that a later version added.
pub fn decode(bytes: &[u8], counters: &Counters) -> Result<Option<Frame>, Failure> {
    match Frame::decode(bytes) {
        Ok(Decoded::Frame(frame)) => {
            counters.received(frame.kind(), bytes.len());
            Ok(Some(frame))
        }
        Ok(Decoded::Unknown(_)) => Ok(None),
        Err(malformed) => Err(Failure::Bad(malformed.reason())),
    }
}

/// Writes bytes that `Frame::encode` made.
pub async fn write(stream: &mut SendStream, kind: Kind, bytes: Bytes, counters: &Counters) -> Result<(), Failure> {
    let len = bytes.len();
    let prefix = u32::try_from(len).map_err(|_| Failure::Broken)?.to_be_bytes();
    let mut parts = [Bytes::copy_from_slice(&prefix), bytes];
    stream.write_all_chunks(&mut parts).await.map_err(|_| Failure::Broken)?;
    counters.sent(kind, len);
    Ok(())
}

async fn next_bytes(stream: &mut RecvStream, len_max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix).await {
        Ok(()) => {}
        Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(quinn::ReadExactError::FinishedEarly(_)) => return Err(Failure::Bad("short")),
        Err(quinn::ReadExactError::ReadError(_)) => return Err(Failure::Broken),
    }
    let len = u32::from_be_bytes(prefix) as usize;
    if len > len_max {
        return Err(Failure::Bad("too_long"));
    }
    let mut bytes = Vec::new();
    while bytes.len() < len {
        match stream.read_chunk(len - bytes.len(), true).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(Failure::Bad("short")),
            Err(_) => return Err(Failure::Broken),
        }
    }
    Ok(Some(bytes))
}

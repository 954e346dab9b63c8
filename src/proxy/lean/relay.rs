//! The body of an answer on its way from the upstream to the client.
//!
//! What has come is sent before more is read, so a slow client slows its upstream, and only that one. A body with a
//! length is sent out of the buffer that it was read into; one without is copied into chunks of our own, whatever chunks
//! it came in.

use std::future::poll_fn;
use std::io::Write;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::proxy::lean::client::Client;
use crate::proxy::lean::deadline::{Deadline, Silence};
use crate::proxy::lean::frame::{Chunks, Framing, Next};
use crate::proxy::record::Record;
use crate::proxy::upstream::{Limits, Line, ReplyFault, Upstreams};

/// Bytes read at once of a long body: what a slow client's answer holds, twice that when it comes in chunks. Half as many
/// cost a third more CPU for each MiB.
const ROOM_BYTES: usize = 128 * 1024;
/// Bytes read at once of a body that fits, or whose length nobody knows yet.
const SMALL_ROOM_BYTES: usize = 8 * 1024;
/// A piece up to here is copied behind the head, so that one plain write sends both.
const COPIED_BYTES: usize = 8 * 1024;

/// Why a body did not arrive.
pub enum Fault {
    /// The client is gone, or takes nothing.
    Client,
    Upstream(ReplyFault),
}

/// A body on its way.
struct Relay<'a> {
    /// `None` once everything has been read from it.
    line: Option<Line>,
    framing: Framing,
    /// Bytes at the beginning of the line's input that are to be sent as they are.
    piece: usize,
    /// Bytes of the client's output and of the piece that have been sent.
    sent: usize,
    limits: Limits,
    silence: Silence,
    upstreams: &'a Upstreams,
}

/// Sends what is in `client.output` and then the body. At its end the line goes back to the pool.
pub async fn relay<S>(
    client: &mut Client<S>,
    line: Line,
    framing: Framing,
    limits: Limits,
    upstreams: &Upstreams,
    record: &mut Record,
) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut relay =
        Relay { line: Some(line), framing, piece: 0, sent: 0, limits, silence: Silence::default(), upstreams };
    let mut deadline = std::mem::take(&mut client.deadline);
    let outcome = poll_fn(|cx| relay.poll(cx, client, &mut deadline, record)).await;
    client.deadline = deadline;
    outcome
}

impl Relay<'_> {
    fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<S>,
        deadline: &mut Deadline,
        record: &mut Record,
    ) -> Poll<Result<(), Fault>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if self.sent == 0 && self.piece == 0 {
                self.take(&mut client.output, record).map_err(broken)?;
            }
            if !client.output.is_empty() || self.piece > 0 {
                let piece = self.line.as_ref().map_or(&[][..], |line| &line.input.filled()[..self.piece]);
                ready!(client.poll_send(cx, piece, &mut self.sent)).map_err(|_| Fault::Client)?;
                self.give_up_piece();
                continue;
            }
            let Some(line) = &mut self.line else { return Poll::Ready(Ok(())) };
            let room = match self.framing {
                Framing::Length(left) if left <= SMALL_ROOM_BYTES as u64 => SMALL_ROOM_BYTES,
                _ => ROOM_BYTES,
            };
            match line.poll_fill(cx, room) {
                Poll::Ready(Ok(0)) => self.end(&mut client.output).map_err(broken)?,
                Poll::Ready(Ok(_)) => self.silence.broken(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(error.to_string()))),
                Poll::Pending => {
                    deadline.set(self.silence.ends(self.limits.read));
                    if client.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(Fault::Client));
                    }
                    return deadline.poll(cx).map(|()| Err(Fault::Upstream(ReplyFault::Timeout)));
                }
            }
        }
    }

    /// Takes what has come into `output`, or marks it as the piece to be sent.
    fn take(&mut self, output: &mut Vec<u8>, record: &mut Record) -> Result<(), String> {
        let Some(line) = &mut self.line else { return Ok(()) };
        let is_over = match &mut self.framing {
            Framing::None => true,
            Framing::Length(left) => {
                let length = line.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                record.add_bytes(length);
                if length > COPIED_BYTES {
                    self.piece = length;
                } else {
                    output.extend_from_slice(&line.input.filled()[..length]);
                    line.input.consume(length);
                }
                *left == 0 && self.piece == 0
            }
            Framing::Chunked(chunks) => take_chunks(line, chunks, output, record)?,
            Framing::UntilClose => {
                write_chunk(output, line.input.filled());
                record.add_bytes(line.input.len());
                line.input.consume(line.input.len());
                false
            }
        };
        if is_over {
            self.release();
        }
        Ok(())
    }

    fn give_up_piece(&mut self) {
        let Some(line) = &mut self.line else { return };
        line.input.consume(std::mem::take(&mut self.piece));
        if self.framing == Framing::Length(0) {
            self.release();
        }
    }

    /// The upstream has closed.
    fn end(&mut self, output: &mut Vec<u8>) -> Result<(), String> {
        if self.framing != Framing::UntilClose {
            return Err("the upstream closed within its answer".to_owned());
        }
        output.extend_from_slice(b"0\r\n\r\n");
        self.line = None;
        Ok(())
    }

    fn release(&mut self) {
        if let Some(line) = self.line.take() {
            self.upstreams.keep(line);
        }
    }
}

/// True when the body is over.
fn take_chunks(
    line: &mut Line,
    chunks: &mut Chunks,
    output: &mut Vec<u8>,
    record: &mut Record,
) -> Result<bool, String> {
    while !line.input.is_empty() && output.len() < ROOM_BYTES {
        let filled = line.input.filled();
        match chunks.next(filled)? {
            Next::Data { skip, length } => {
                write_chunk(output, &filled[skip..skip + length]);
                record.add_bytes(length);
                line.input.consume(skip + length);
            }
            Next::Nothing => line.input.consume(filled.len()),
            Next::End(length) => {
                output.extend_from_slice(b"0\r\n\r\n");
                line.input.consume(length);
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn write_chunk(output: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        let _ = write!(output, "{:x}\r\n", data.len());
        output.extend_from_slice(data);
        output.extend_from_slice(b"\r\n");
    }
}

fn broken(why: String) -> Fault {
    Fault::Upstream(ReplyFault::Broken(why))
}

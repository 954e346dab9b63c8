//! The body of an answer over a connection without hyper, for a client whose connection hyper speaks.
//!
//! `lean::relay` does the same for clients of the lean path, out of one buffer into another; here each piece becomes
//! bytes of its own, since hyper sends them when it can. Trailers are thrown away: whoever wants them is not sent here.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::proxy::lean::deadline::{Deadline, Silence};
use crate::proxy::lean::frame::{Framing, Next};
use crate::proxy::upstream::line::Line;
use crate::proxy::upstream::link::Limits;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::{ReplyFault, Upstreams};

/// Bytes read at once.
const ROOM_BYTES: usize = 16 * 1024;

/// A body on its way. Its connection goes back to the pool at the end, and is closed when it is dropped before.
pub struct LineBody {
    /// `None` once everything has been read from it.
    line: Option<Line>,
    framing: Framing,
    limits: Limits,
    deadline: Deadline,
    silence: Silence,
    pool: Rc<Pool<Line>>,
}

impl LineBody {
    /// The body that follows a head, which `framing` is of.
    pub fn new(line: Line, framing: Framing, limits: Limits, upstreams: &Upstreams) -> Self {
        let pool = Rc::clone(&upstreams.lines);
        let (deadline, silence) = (Deadline::default(), Silence::default());
        let mut body = Self { line: Some(line), framing, limits, deadline, silence, pool };
        if body.left() == Some(0) {
            body.release();
        }
        body
    }

    /// Bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.framing {
            Framing::None => Some(0),
            Framing::Length(left) => Some(left),
            Framing::Chunked(_) | Framing::UntilClose => self.line.is_none().then_some(0),
        }
    }

    /// The next piece; `None` at the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReplyFault>>> {
        loop {
            match self.take() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) => {}
                Err(why) => return self.broken(why.to_owned()),
            }
            let Some(line) = &mut self.line else { return Poll::Ready(None) };
            match line.poll_fill(cx, ROOM_BYTES) {
                Poll::Ready(Ok(1..)) => self.silence.broken(),
                Poll::Ready(Ok(0)) if self.framing == Framing::UntilClose => self.line = None,
                Poll::Ready(Ok(0)) => return self.broken("the upstream closed within its answer".to_owned()),
                Poll::Ready(Err(error)) => return self.broken(error.to_string()),
                Poll::Pending => {
                    self.deadline.set(self.silence.ends(self.limits.read));
                    return self.deadline.poll(cx).map(|()| {
                        self.line = None;
                        Some(Err(ReplyFault::Timeout))
                    });
                }
            }
        }
    }

    /// What has come already; `None`: more has to be read, or it is over.
    fn take(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(line) = &mut self.line else { return Ok(None) };
        let (mut data, mut is_over) = (None, false);
        while !line.input.is_empty() && data.is_none() && !is_over {
            let filled = line.input.filled();
            let used = match &mut self.framing {
                Framing::None => {
                    is_over = true;
                    0
                }
                Framing::Length(left) => {
                    let length = filled.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= length as u64;
                    is_over = *left == 0;
                    data = Some(Bytes::copy_from_slice(&filled[..length]));
                    length
                }
                Framing::UntilClose => {
                    data = Some(Bytes::copy_from_slice(filled));
                    filled.len()
                }
                Framing::Chunked(chunks) => match chunks.next(filled)? {
                    Next::Data { skip, length } => {
                        data = Some(Bytes::copy_from_slice(&filled[skip..skip + length]));
                        skip + length
                    }
                    Next::Nothing => filled.len(),
                    Next::End(length) => {
                        is_over = true;
                        length
                    }
                },
            };
            line.input.consume(used);
        }
        if is_over {
            self.release();
        }
        Ok(data)
    }

    fn broken(&mut self, why: String) -> Poll<Option<Result<Bytes, ReplyFault>>> {
        self.line = None;
        Poll::Ready(Some(Err(ReplyFault::Broken(why))))
    }

    fn release(&mut self) {
        if let Some(line) = self.line.take().filter(Line::is_kept) {
            self.pool.put(line);
        }
    }
}

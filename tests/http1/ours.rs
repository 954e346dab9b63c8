//! Reads cases with `tidegate::http1`, in the way in which the proxy does.

use http::StatusCode;
use tidegate::http1::Parsed;
use tidegate::http1::body::{BodyDecoder, Slices};
use tidegate::http1::fields::RequestFields;
use tidegate::http1::framing::Framing;
use tidegate::http1::request::{HeadScan, RequestHead, skip_empty_lines};
use tidegate::http1::response::ResponseHead;

use crate::generate::Case;
use crate::message::{Bytes, FirstLine, Message, Outcome, fields};

/// The bytes of a case as they arrive.
struct Arrivals<'a> {
    bytes: &'a [u8],
    /// Where the next pieces end, in ascending order.
    ends: std::slice::Iter<'a, usize>,
    consumed: usize,
    arrived: usize,
}

impl<'a> Arrivals<'a> {
    fn new(case: &'a Case, ends: &'a [usize]) -> Self {
        Self { bytes: &case.bytes, ends: ends.iter(), consumed: 0, arrived: 0 }
    }

    /// The bytes that arrived and were not consumed.
    fn filled(&self) -> &'a [u8] {
        &self.bytes[self.consumed..self.arrived]
    }

    /// Lets the next piece arrive. False: the connection has ended.
    fn advance(&mut self) -> bool {
        let next = self.ends.next();
        self.arrived = *next.unwrap_or(&self.arrived);
        next.is_some()
    }
}

/// Reads a request that arrives in pieces; at most `taken` bytes of its body are consumed at a time.
pub fn read_request(case: &Case, ends: &[usize], taken: usize) -> Outcome {
    let mut arrivals = Arrivals::new(case, ends);
    let (mut head, mut scan) = (RequestHead::default(), HeadScan::default());
    loop {
        arrivals.consumed += skip_empty_lines(arrivals.filled());
        let parsed = match arrivals.filled() {
            [] => Parsed::Partial,
            filled => head.parse(filled, &case.limits, &mut scan),
        };
        match parsed {
            Parsed::Head(length) => {
                arrivals.consumed += length;
                break;
            }
            Parsed::Invalid(invalid) => {
                head.salvage(arrivals.filled(), &case.limits);
                return Err(invalid.reason().to_owned());
            }
            Parsed::Partial if arrivals.advance() => {}
            Parsed::Partial => return Err("incomplete head".to_owned()),
        }
    }
    let facts = RequestFields::read(&head.headers, head.version).map_err(|invalid| invalid.reason().to_owned())?;
    let first = FirstLine::Request {
        method: head.method.as_str().to_owned(),
        path: head.target.path().into(),
        query: head.target.query().map(Bytes::from),
        authority: head.target.authority().map(|authority| Bytes::from(&authority[..])),
    };
    let message = Message {
        first,
        version: head.version,
        headers: fields(&head.headers),
        body: Bytes(Vec::new()),
        trailers: Vec::new(),
        consumed: 0,
    };
    read_body(arrivals, facts.framing(), taken, message)
}

/// Reads a response that arrives in pieces; at most `taken` bytes of its body are consumed at a time.
pub fn read_response(case: &Case, ends: &[usize], taken: usize) -> Outcome {
    let (mut arrivals, mut head) = (Arrivals::new(case, ends), ResponseHead::default());
    loop {
        let parsed = match arrivals.filled() {
            [] => Parsed::Partial,
            filled => head.parse(filled),
        };
        match parsed {
            Parsed::Head(length) => {
                arrivals.consumed += length;
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    break;
                }
            }
            Parsed::Invalid(invalid) => return Err(invalid.reason().to_owned()),
            Parsed::Partial if arrivals.advance() => {}
            Parsed::Partial => return Err("incomplete head".to_owned()),
        }
    }
    let framing = match head.status {
        StatusCode::SWITCHING_PROTOCOLS => Framing::None,
        _ => Framing::of_response(&head, case.to_head)?,
    };
    let message = Message {
        first: FirstLine::Response { status: head.status.as_u16(), reason: head.reason[..].into() },
        version: head.version,
        headers: fields(&head.headers),
        body: Bytes(Vec::new()),
        trailers: Vec::new(),
        consumed: 0,
    };
    read_body(arrivals, framing, taken, message)
}

/// Reads the body of `message`, and adds it.
fn read_body(mut arrivals: Arrivals<'_>, framing: Framing, taken: usize, mut message: Message) -> Outcome {
    let mut decoder = BodyDecoder::new(framing);
    loop {
        decoder.decode(arrivals.filled())?;
        let mut slices = Slices::new();
        decoder.slices(arrivals.filled(), &mut slices);
        let data = slices.concat();
        assert_eq!(data.len(), decoder.ready(), "the data that is ready");
        let used = data.len().min(taken);
        message.body.0.extend_from_slice(&data[..used]);
        arrivals.consumed += decoder.consume(used);
        if used > 0 {
            continue;
        }
        if decoder.is_ended() {
            break;
        }
        if !arrivals.advance() {
            decoder.close()?;
        }
    }
    message.trailers = decoder.take_trailers().as_ref().map(fields).unwrap_or_default();
    message.consumed = arrivals.consumed;
    Ok(Box::new(message))
}

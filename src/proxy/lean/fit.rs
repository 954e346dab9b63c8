//! Which requests the lean path takes.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderName, Version};

use crate::listen::handover::Handover;
use crate::proxy::body::REPLAY_BYTES;
use crate::proxy::hop::lists;
use crate::proxy::lean::frame::digits;
use crate::snapshot::plan::Plan;

/// What the head of a request says about what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// `None`: no body was announced.
    pub length: Option<usize>,
    /// The connection ends after the answer.
    pub closes: bool,
}

/// Looks at a head. `limit`: bytes of a body that any client may send; 0: no limit.
pub fn fit(head: &Parts, limit: u64) -> Result<Fit, Handover> {
    if head.version != Version::HTTP_11 {
        return Err(Handover::Version);
    }
    let mut fit = Fit::default();
    for (name, value) in &head.headers {
        if *name == CONTENT_LENGTH {
            let length = digits(value.as_bytes()).filter(|length| limit == 0 || *length <= limit);
            let length = usize::try_from(length.ok_or(Handover::Head)?).map_err(|_| Handover::Body)?;
            if fit.length.replace(length).is_some() {
                return Err(Handover::Head);
            }
        } else if *name == CONNECTION {
            fit.closes |= lists(value, b"close");
        } else if let Some(handover) = beyond(name) {
            return Err(handover);
        }
    }
    if fit.length > Some(REPLAY_BYTES) { Err(Handover::Body) } else { Ok(fit) }
}

/// Whether a plan's requests can be served here, with a body of this length.
pub fn suits(plan: &Plan, fit: &Fit) -> Result<(), Handover> {
    if plan.chain.body_wanted() > 0 {
        return Err(Handover::Plugin);
    }
    if !plan.request_buffering && fit.length > Some(0) {
        return Err(Handover::Body);
    }
    Ok(())
}

fn beyond(name: &HeaderName) -> Option<Handover> {
    match *name {
        TRANSFER_ENCODING => Some(Handover::Body),
        UPGRADE => Some(Handover::Upgrade),
        EXPECT => Some(Handover::Expect),
        TE => Some(Handover::Trailers),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    fn check(lines: &[(&str, &str)], expected: Result<Fit, Handover>) {
        let mut request = Request::builder();
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        assert_eq!(fit(&request.body(()).unwrap().into_parts().0, 70_000), expected, "{lines:?}");
    }

    #[test]
    fn plain_requests_fit() {
        check(&[("host", "a"), ("x", "y")], Ok(Fit::default()));
        check(&[("connection", "Close")], Ok(Fit { closes: true, length: None }));
        check(&[("content-length", "0")], Ok(Fit { closes: false, length: Some(0) }));
        check(&[("content-length", "65536")], Ok(Fit { closes: false, length: Some(65_536) }));
    }

    #[test]
    fn what_needs_more_or_is_wrong_does_not() {
        check(&[("content-length", "65537")], Err(Handover::Body));
        check(&[("content-length", "70001")], Err(Handover::Head));
        check(&[("content-length", "1"), ("content-length", "1")], Err(Handover::Head));
        check(&[("content-length", "+1")], Err(Handover::Head));
        check(&[("content-length", "1"), ("transfer-encoding", "chunked")], Err(Handover::Body));
        check(&[("transfer-encoding", "chunked")], Err(Handover::Body));
        check(&[("upgrade", "h2c")], Err(Handover::Upgrade));
        check(&[("expect", "100-continue")], Err(Handover::Expect));
        check(&[("te", "trailers")], Err(Handover::Trailers));
    }
}

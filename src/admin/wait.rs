//! `?wait=all&timeout_ms=N`: the answer to a write is held until every alive node has applied it.
//!
//! The write is done before the wait begins and stands whatever comes of it. A second request that asks "is it there
//! yet" was the alternative; it would make each client poll.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::admin::handles::Handles;
use crate::admin::query::Query;
use crate::admin::reply::{self, REVISION, Reply};

const LIMIT_MS: u64 = 5_000;
const LIMIT_MS_MAX: u64 = 60_000;

/// How long a client wants to wait for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(Duration);

impl Patience {
    /// `None`: the client does not wait. The error is the sentence for it.
    pub(crate) fn parse(query: &Query) -> Result<Option<Self>, String> {
        let limit_ms = match query.first("timeout_ms") {
            None => LIMIT_MS,
            Some(text) => limit_ms(text)
                .ok_or_else(|| format!("timeout_ms must be an integer between 1 and {LIMIT_MS_MAX}, not '{text}'"))?,
        };
        match query.first("wait") {
            None => Ok(None),
            Some("all") => Ok(Some(Self(Duration::from_millis(limit_ms)))),
            Some(other) => Err(format!("wait must be 'all', not '{other}'")),
        }
    }

    /// Holds the answer to a write until all have what this node has now: the write, or more. What was refused has no
    /// revision and is not waited for.
    pub(crate) async fn hold(self, reply: Reply, handles: &Handles) -> Reply {
        let Some(revision) = reply.headers().get(REVISION).cloned() else { return reply };
        let Err(missing) = handles.cluster.settled(handles.ledger.vector(), self.0).await else { return reply };
        let text = "the write stands, and was not yet applied by every node when time was up";
        let body = json!({ "message": text, "missing": missing });
        let mut late = reply::json(StatusCode::GATEWAY_TIMEOUT, &body);
        late.headers_mut().insert(REVISION, revision);
        late
    }
}

fn limit_ms(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let limit_ms: u64 = if digits { text.parse().ok()? } else { return None };
    (1..=LIMIT_MS_MAX).contains(&limit_ms).then_some(limit_ms)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_all_and_a_time() {
        let check = |text: &str, expected: Result<Option<u64>, ()>| {
            let got = Patience::parse(&Query::parse(Some(text)).unwrap());
            let got = got.map(|patience| patience.map(|Patience(limit)| limit.as_millis() as u64)).map_err(|_| ());
            assert_eq!(got, expected, "{text}");
        };
        check("", Ok(None));
        check("size=3", Ok(None));
        check("wait=all", Ok(Some(5_000)));
        check("wait=all&timeout_ms=1", Ok(Some(1)));
        check("wait=all&timeout_ms=60000", Ok(Some(60_000)));
        check("timeout_ms=100", Ok(None));
        for bad in ["wait=some", "wait=", "wait", "wait=ALL", "wait=all&timeout_ms=0", "wait=all&timeout_ms=60001"] {
            check(bad, Err(()));
        }
        for bad in ["timeout_ms=", "timeout_ms=1.5", "timeout_ms=%2B5", "timeout_ms=-1", "timeout_ms=x"] {
            check(bad, Err(()));
        }
        check(&format!("wait=all&timeout_ms={}", u64::MAX), Err(()));
        check("wait=all&timeout_ms=99999999999999999999999", Err(()));
    }
}

//! What follows a failed try: pure.
//!
//! Kong: `proxy_next_upstream error timeout`. Statuses are answers and never tried again; neither is anything once a
//! byte of an answer has come.

use http::Method;

/// How far a failed try got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// No connection; or one, but nothing was sent over it.
    Nothing,
    /// A part of the request was sent, and no byte came back.
    Sent,
    /// A part of an answer had come.
    Answer,
}

/// A failed try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) reached: Reached,
    pub(super) timeout: bool,
    /// The connection had served before.
    pub(super) reused: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GiveUp,
    /// The same address over another connection; counts as no try.
    Reconnect,
    /// The next address.
    TryAgain,
}

/// `resendable`: the body can be sent once more; `left`: tries after this one.
pub(super) fn next(method: &Method, resendable: bool, failed: Failed, left: u32) -> Next {
    if failed.reached == Reached::Answer || !resendable {
        return Next::GiveUp;
    }
    if failed.reached == Reached::Sent && !repeatable(method) {
        return Next::GiveUp;
    }
    // The upstream closed a connection that it had promised to keep: that says nothing about its health.
    if failed.reused && !failed.timeout {
        return Next::Reconnect;
    }
    if left > 0 { Next::TryAgain } else { Next::GiveUp }
}

/// Kong: POST, LOCK and PATCH are not sent twice, everything else is, PUT and DELETE included.
fn repeatable(method: &Method) -> bool {
    *method != Method::POST && *method != Method::PATCH && method.as_str() != "LOCK"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn failed(reached: Reached, timeout: bool, reused: bool) -> Failed {
        Failed { reached, timeout, reused }
    }

    /// For the methods that may be sent twice, then for those that may not.
    fn check(failed: Failed, repeatable: Next, once: Next) {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PURGE"] {
            assert_eq!(next(&method.parse().unwrap(), true, failed, 1), repeatable, "{method} {failed:?}");
        }
        for method in ["POST", "PATCH", "LOCK"] {
            assert_eq!(next(&method.parse().unwrap(), true, failed, 1), once, "{method} {failed:?}");
        }
    }

    #[test]
    fn the_table_of_methods_and_failures() {
        for timeout in [false, true] {
            check(failed(Reached::Nothing, timeout, false), Next::TryAgain, Next::TryAgain);
            check(failed(Reached::Sent, timeout, false), Next::TryAgain, Next::GiveUp);
            for reused in [false, true] {
                check(failed(Reached::Answer, timeout, reused), Next::GiveUp, Next::GiveUp);
            }
        }
        check(failed(Reached::Nothing, false, true), Next::Reconnect, Next::Reconnect);
        check(failed(Reached::Sent, false, true), Next::Reconnect, Next::GiveUp);
        check(failed(Reached::Sent, true, true), Next::TryAgain, Next::GiveUp);
    }

    #[test]
    fn tries_run_out_but_a_kept_connection_that_was_closed_is_no_try() {
        let refused = failed(Reached::Nothing, false, false);
        assert_eq!(next(&Method::GET, true, refused, 0), Next::GiveUp);
        let closed = failed(Reached::Sent, false, true);
        assert_eq!(next(&Method::GET, true, closed, 0), Next::Reconnect);
    }

    #[test]
    fn a_body_that_is_gone_ends_it() {
        for reached in [Reached::Nothing, Reached::Sent] {
            assert_eq!(next(&Method::PUT, false, failed(reached, false, true), 5), Next::GiveUp);
        }
    }
}

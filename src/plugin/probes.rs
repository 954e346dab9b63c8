//! Plugins that exist in tests only: at least one for each phase and each way to return.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderName;
use http::header::CONTENT_LENGTH;

use super::*;
use crate::entity::declare::Record;

pub(crate) static MAKERS: &[&Maker] = &[&WAITS, &REWRITES, &SHOUTS, &WRAPS, &COUNTS, &STREAMS, &LOGS];

macro_rules! probe {
    ($maker:ident, $name:literal, $priority:literal, $build:expr) => {
        static $maker: Maker = Maker {
            declaration: &PluginDeclaration {
                name: $name,
                priority: $priority,
                config: Record { fields: &[], shorthands: &[], rules: &[] },
                rules: &[],
                consumer_scope: true,
                protocols: &["http", "https"],
                notices: &[],
            },
            build: $build,
        };
    };
}

probe!(WAITS, "probe-waits", 90, |build| {
    let ms = build.config.get("ms").and_then(serde_json::Value::as_u64).unwrap_or(0);
    Ok(Box::new(Waits(Duration::from_millis(ms))))
});
probe!(REWRITES, "probe-rewrites", 80, |_| Ok(Box::new(Rewrites)));
probe!(SHOUTS, "probe-shouts", 70, |_| Ok(Box::new(Shouts)));
probe!(WRAPS, "probe-wraps", 60, |_| Ok(Box::new(Wraps)));
probe!(COUNTS, "probe-counts", 50, |build| Ok(Box::new(Counts(build.state().unwrap_or_default()))));
probe!(STREAMS, "probe-streams", 40, |_| Ok(Box::new(Streams)));
probe!(LOGS, "probe-logs", 30, |_| Ok(Box::new(Logs)));

fn header(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// Waits twice in `access`, then marks the request and continues.
struct Waits(Duration);

impl Plugin for Waits {
    fn access(&self, _: &mut Exchange<'_>) -> Step {
        let pause = self.0;
        Step::Wait(Box::pin(async move {
            tokio::time::sleep(pause / 2).await;
            Box::new(move |_: &mut Exchange<'_>| again(pause / 2)) as Resume
        }))
    }
}

fn again(pause: Duration) -> Step {
    Step::Wait(Box::pin(async move {
        tokio::time::sleep(pause).await;
        Box::new(|exchange: &mut Exchange<'_>| {
            exchange.upward.headers.set(&header("x-waited"), HeaderValue::from_static("twice"));
            Step::Continue
        }) as Resume
    }))
}

/// Before routing it marks the request; in `header_filter` it shows the original request and what it noted.
struct Rewrites;

struct Noted(&'static str);

impl Plugin for Rewrites {
    fn wants(&self) -> Wants {
        Wants { rewrite: true, header_filter: true, ..Wants::default() }
    }

    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        exchange.upward.headers.set(&header("x-rewritten"), HeaderValue::from_static("1"));
        exchange.upward.headers.remove(&header("x-original"));
        exchange.notes.leave(Noted("noted"));
        Step::Continue
    }

    fn header_filter(&self, exchange: &mut Exchange<'_>, head: &mut ResponseHead) {
        let seen = exchange.request.headers.get("x-original").cloned();
        head.headers.insert("x-seen", seen.unwrap_or(HeaderValue::from_static("nothing")));
        let noted = exchange.notes.read::<Noted>().map_or("", |noted| noted.0);
        head.headers.insert("x-noted", HeaderValue::from_static(noted));
    }
}

/// Rewrites a body piece by piece.
struct Shouts;

impl Plugin for Shouts {
    fn wants(&self) -> Wants {
        Wants { body_filter: true, ..Wants::default() }
    }

    fn body_filter(&self, _: &mut Exchange<'_>, _: &ResponseHead) -> Option<Box<dyn BodyFilter>> {
        Some(Box::new(Shout))
    }
}

struct Shout;

impl BodyFilter for Shout {
    fn filter(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) {
        out.extend(piece.iter().map(u8::to_ascii_uppercase));
        if last {
            out.push(b'!');
        }
    }
}

/// Needs the whole body, up to a bound; a longer one passes as it is.
struct Wraps;

/// Bytes of a body that are wrapped.
pub(crate) const WRAPPED_MAX: usize = 1_000;

impl Plugin for Wraps {
    fn wants(&self) -> Wants {
        Wants { body_filter: true, ..Wants::default() }
    }

    fn body_filter(&self, _: &mut Exchange<'_>, head: &ResponseHead) -> Option<Box<dyn BodyFilter>> {
        let stated = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        (stated.is_none_or(|length| length <= WRAPPED_MAX)).then(|| Box::new(Wrap::default()) as Box<dyn BodyFilter>)
    }
}

#[derive(Default)]
struct Wrap {
    held: Vec<u8>,
    gave_up: bool,
}

impl BodyFilter for Wrap {
    fn filter(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        self.gave_up |= self.held.len() > WRAPPED_MAX;
        if last && !self.gave_up {
            out.extend_from_slice(format!("[{}]", self.held.len()).as_bytes());
        }
        if last || self.gave_up {
            out.append(&mut self.held);
        }
    }
}

/// Counts requests, also over reloads.
struct Counts(Arc<AtomicU64>);

impl Plugin for Counts {
    fn wants(&self) -> Wants {
        Wants { header_filter: true, ..Wants::default() }
    }

    fn header_filter(&self, _: &mut Exchange<'_>, head: &mut ResponseHead) {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        head.headers.insert("x-count", HeaderValue::from(count));
    }

    fn state(&self) -> Option<State> {
        Some(self.0.clone())
    }
}

/// Answers with a body that is made while it is sent; the query `break` breaks it off.
struct Streams;

impl Plugin for Streams {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let breaks = exchange.query() == b"break";
        let pieces = ["one,", "two,", "three"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let pieces = pieces.into_iter().chain(breaks.then_some(Err(Cow::Borrowed("broken on purpose"))));
        let body = futures_util::stream::unfold(pieces, |mut pieces| async move {
            tokio::task::yield_now().await;
            Some((pieces.next()?, pieces))
        });
        Step::Respond(Answer::Stream { status: StatusCode::ACCEPTED, headers: Vec::new(), body: Box::pin(body) })
    }
}

/// Keeps the log documents that it gets.
struct Logs;

impl Plugin for Logs {
    fn wants(&self) -> Wants {
        Wants { log: true, ..Wants::default() }
    }
}

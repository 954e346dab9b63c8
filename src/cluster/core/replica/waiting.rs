//! Spans that wait: for the keeper's word, or for those before them.

use std::collections::{BTreeMap, VecDeque};

use tidegate_proto::Vector;
use tidegate_proto::frame::Span;

/// How long the keeper may take before a span counts as not taken, and is asked for again.
const PROMISED_MS: u64 = 5_000;
/// How long a span waits for those before it.
const EARLY_MS: u64 = 10_000;

/// Bounds of what is promised: beyond, a span is dropped, shows as a gap and is pulled.
const PROMISED_MAX: usize = 2_000;
const PROMISED_LEN_MAX: usize = 32 << 20;
/// Bounds of what is early: beyond, a span is dropped, and pulled when its turn comes.
const EARLY_MAX: usize = 1_000;
const EARLY_LEN_MAX: usize = 16 << 20;

/// Given to the keeper, in order: (from whom, span, until when).
#[derive(Debug, Default)]
pub struct Promised {
    spans: VecDeque<(String, Span, u64)>,
    len: usize,
}

/// Spans whose predecessors have not arrived, by origin and first transaction.
#[derive(Debug, Default)]
pub struct Early {
    spans: BTreeMap<(String, u64), (String, Span, u64)>,
    len: usize,
}

impl Promised {
    /// The span to hand out, or `None` when too much is out already.
    pub fn give(&mut self, from: String, span: Span, now_ms: u64) -> Option<Span> {
        let len = span.size();
        if self.spans.len() >= PROMISED_MAX || !self.spans.is_empty() && self.len + len > PROMISED_LEN_MAX {
            return None;
        }
        self.len += len;
        self.spans.push_back((from, span.clone(), now_ms + PROMISED_MS));
        Some(span)
    }

    /// Takes out what is within `vector`, in order.
    pub fn settle(&mut self, vector: &Vector) -> Vec<(String, Span)> {
        let (settled, rest) = std::mem::take(&mut self.spans)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(_, span, _)| vector.count(&span.origin) >= span.upto);
        self.spans = rest;
        self.len -= settled.iter().map(|(_, span, _)| span.size()).sum::<usize>();
        settled.into_iter().map(|(from, span, _)| (from, span)).collect()
    }

    /// Whether something was given up: everything is, as later spans build on it.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let late = self.until_ms().is_some_and(|until_ms| now_ms >= until_ms);
        if late {
            *self = Self::default();
        }
        late
    }

    pub fn until_ms(&self) -> Option<u64> {
        self.spans.front().map(|(_, _, until_ms)| *until_ms)
    }

    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().map(|(_, span, _)| span)
    }
}

impl Early {
    pub fn hold(&mut self, from: &str, span: Span, now_ms: u64) {
        let len = span.size();
        let key = (span.origin.clone(), span.after);
        let known = self.spans.get(&key).is_some_and(|(_, other, _)| other.upto >= span.upto);
        if known || self.spans.len() >= EARLY_MAX || self.len + len > EARLY_LEN_MAX {
            return;
        }
        self.len += len;
        if let Some((_, other, _)) = self.spans.insert(key, (from.to_owned(), span, now_ms + EARLY_MS)) {
            self.len -= other.size();
        }
    }

    /// A span whose turn it is.
    pub fn next(&mut self, reach: &Vector) -> Option<(String, Span)> {
        let turn = |span: &Span| {
            let count = reach.count(&span.origin);
            span.epoch == reach.epoch && span.after <= count && span.upto > count
        };
        let key = self.spans.iter().find(|(_, (_, span, _))| turn(span)).map(|(key, _)| key.clone())?;
        let (from, span, _) = self.spans.remove(&key)?;
        self.len -= span.size();
        Some((from, span))
    }

    pub fn drop_known(&mut self, reach: &Vector) {
        self.retain(|span, _| span.epoch == reach.epoch && span.upto > reach.count(&span.origin));
    }

    pub fn expire(&mut self, now_ms: u64) {
        if self.until_ms().is_some_and(|until_ms| now_ms >= until_ms) {
            self.retain(|_, until_ms| until_ms > now_ms);
        }
    }

    pub fn until_ms(&self) -> Option<u64> {
        self.spans.values().map(|(_, _, until_ms)| *until_ms).min()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    fn retain(&mut self, keep: impl Fn(&Span, u64) -> bool) {
        self.spans.retain(|_, (_, span, until_ms)| keep(span, *until_ms));
        self.len = self.spans.values().map(|(_, span, _)| span.size()).sum();
    }
}

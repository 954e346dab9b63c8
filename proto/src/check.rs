//! What a frame's content must be, beyond its types. Held when frames are written and when they are read.

use std::net::SocketAddr;

use crate::frame::{
    COUNT_MAX, Counts, Frame, Group, Hello, KINDS_MAX, MORE_MAX, More, NAME_LEN_MAX, PERIODS, RECORDS_LEN_MAX, Records,
    Span, TEXT_LEN_MAX,
};
use crate::sizes::ORIGINS_MAX;
use crate::vector::Vector;

/// Which rule is broken.
type Checked = Result<(), &'static str>;

pub fn frame(frame: &Frame) -> Checked {
    match frame {
        Frame::Hello(body) => hello(body).and_then(|()| more(&body.more)),
        Frame::Beat(body) => more(&body.more),
        Frame::Spans(body) => spans(&body.spans).and_then(|()| vector(&body.vector)).and_then(|()| more(&body.more)),
        Frame::Pull(body) => vector(&body.vector).and_then(|()| more(&body.more)),
        Frame::Whole(body) => vector(&body.vector).and_then(|()| more(&body.more)),
        Frame::Fetch(body) => {
            let kind = body.after.as_ref().map_or(Ok(()), |(kind, _)| kind_name(kind));
            kind.and_then(|()| more(&body.more))
        }
        Frame::Chunk(body) => {
            let len = rule(body.len as usize <= RECORDS_LEN_MAX, "a chunk says that it decompresses to too much");
            len.and_then(|()| vector(&body.vector)).and_then(|()| more(&body.more))
        }
        Frame::Gossip(body) => more(&body.more),
        Frame::Leave(body) => more(&body.more),
        Frame::Busy(body) => more(&body.more),
        Frame::Counts(body) => counts(body),
        Frame::CountsPull(body) => more(&body.more),
        Frame::Ask(body) => period(body.period).and_then(|()| more(&body.more)),
        Frame::Grant(body) => period(body.period).and_then(|()| more(&body.more)),
        #[cfg(test)]
        Frame::Probe(body) => more(&body.more),
    }
}

pub fn records(records: &Records) -> Checked {
    let place = |at: usize| records.records.get(at).map(|record| (record.kind.as_str(), record.id));
    let ascend = (1..records.records.len()).all(|at| place(at - 1) < place(at));
    rule(ascend, "records are not in order of kind and id")?;
    records.records.iter().try_for_each(|record| origin_name(&record.origin))?;
    kinds(records.records.iter().map(|record| record.kind.as_str()))
}

fn hello(hello: &Hello) -> Checked {
    rule(is_name(&hello.node_id), "a node id is 1 to 64 letters, digits, '-', '_' and '.'")?;
    rule(is_name(&hello.store), "a store has a name")?;
    rule(is_line(&hello.cluster_id), "a cluster id is 1 to 128 bytes of one line")?;
    rule(is_line(&hello.region), "a region is 1 to 128 bytes of one line")?;
    rule(is_line(&hello.version), "a program version is 1 to 128 bytes of one line")?;
    let address = hello.address.len() <= TEXT_LEN_MAX && hello.address.parse::<SocketAddr>().is_ok();
    rule(address, "an address is IP:PORT")?;
    rule(1 <= hello.oldest && hello.oldest <= hello.newest, "the versions of a Hello are a range from 1")
}

fn spans(spans: &[Span]) -> Checked {
    rule(spans.len() <= crate::frame::SPANS_MAX, "too many spans")?;
    for span in spans {
        origin_name(&span.origin)?;
        rule(span.after < span.upto, "a span is empty or runs backwards")?;
    }
    kinds(spans.iter().flat_map(|span| &span.changes).map(|changed| changed.kind.as_str()))
}

/// Every kind has a name, and there are not too many of them.
fn kinds<'a>(names: impl Iterator<Item = &'a str>) -> Checked {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        // Neighbours mostly are of one kind.
        if seen.last() == Some(&name) {
            continue;
        }
        match seen.iter().position(|other| *other == name) {
            Some(at) => {
                let last = seen.len() - 1;
                seen.swap(at, last);
            }
            None => {
                kind_name(name)?;
                rule(seen.len() < KINDS_MAX, "too many kinds of entities")?;
                seen.push(name);
            }
        }
    }
    Ok(())
}

fn counts(counts: &Counts) -> Checked {
    rule(counts.complete >> PERIODS == 0, "complete is a set of periods")?;
    counts.groups.iter().try_for_each(group)
}

fn group(group: &Group) -> Checked {
    let named = group.source.as_ref().is_none_or(|(node_id, _)| is_name(node_id));
    rule(named, "a node id is 1 to 64 letters, digits, '-', '_' and '.'")?;
    period(group.period)?;
    rule(!group.slots.is_empty(), "a group has no slots")?;
    rule(group.slots.iter().all(|slot| slot.count <= COUNT_MAX), "a count is larger than a node can have counted")
}

fn period(period: u8) -> Checked {
    rule(period < PERIODS, "a period is one of six")
}

fn vector(vector: &Vector) -> Checked {
    rule(vector.counts.len() <= ORIGINS_MAX, "too many origins")?;
    vector.counts.keys().try_for_each(|origin| origin_name(origin))
}

fn more(more: &More) -> Checked {
    rule(more.len() <= MORE_MAX, "too many additional members")?;
    rule(more.is_sorted_by(|(a, _), (b, _)| a < b), "additional members are not in order")
}

fn kind_name(name: &str) -> Checked {
    rule(is_name(name), "a kind is 1 to 64 letters, digits, '-', '_' and '.'")
}

fn origin_name(name: &str) -> Checked {
    rule(name.is_empty() || is_name(name), "an origin is a node id, or empty for the database")
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_line(text: &str) -> bool {
    (1..=TEXT_LEN_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

fn rule(holds: bool, why: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(why) }
}

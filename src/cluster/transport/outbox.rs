//! What waits to be sent to a peer, by carrier, each with a bound and a rule for what happens there.
//!
//! Pushing never waits: a peer that does not read costs its bounds in memory and nobody else's time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate_proto::kind::Kind;
use tokio::sync::Notify;

/// Bytes of small frames that wait or are being written; one more, and the peer is too slow to be a member.
const CONTROL_LEN_MAX: usize = 64 << 10;
/// Bytes of transactions; one more is dropped, and the peer will pull what it lacks.
const SPANS_LEN_MAX: usize = 1 << 20;
/// Bytes of counts that wait or that the peer has not yet acknowledged, and frames that wait; one more is refused, and the
/// peer is owed all slots.
const COUNTS_LEN_MAX: usize = 1 << 20;
const COUNTS_WAITING_MAX: usize = 64;
/// Bytes of small frames above which no more questions and answers about rights are taken: those can be lost, and a
/// flood of them must not cost the connection.
const RIGHTS_LEN_MAX: usize = CONTROL_LEN_MAX / 2;

/// The queues of one connection.
pub struct Outbox {
    pub control: Queue,
    pub spans: Queue,
    pub gossip: Queue,
    pub counts: Queue,
}

/// What becomes of a frame when there is no room.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// It is refused, by bytes and by frames that wait; but a queue that is empty takes any frame.
    Bounded { len: usize, waiting: usize },
    /// It takes the place of the one that waits.
    NewestWins,
}

/// Frames of one carrier in order, one reader.
pub struct Queue {
    rule: Rule,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Bytes, with those that were taken and are not `written`.
    len: usize,
    finishing: bool,
}

/// An encoded frame.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    pub bytes: Bytes,
}

impl Outbox {
    pub fn new() -> Self {
        Self {
            control: Queue::new(Rule::Bounded { len: CONTROL_LEN_MAX, waiting: usize::MAX }),
            spans: Queue::new(Rule::Bounded { len: SPANS_LEN_MAX, waiting: usize::MAX }),
            gossip: Queue::new(Rule::NewestWins),
            counts: Queue::new(Rule::Bounded { len: COUNTS_LEN_MAX, waiting: COUNTS_WAITING_MAX }),
        }
    }

    /// A small frame that may be lost: refused while there is half of what the control stream may hold.
    pub fn push_right(&self, item: Item) -> bool {
        self.control.state().len <= RIGHTS_LEN_MAX && self.control.push(item)
    }

    /// Nothing more will be pushed; readers end when they have taken the rest.
    pub fn finish(&self) {
        for queue in [&self.control, &self.spans, &self.gossip, &self.counts] {
            queue.state().finishing = true;
            queue.wake.notify_one();
        }
    }
}

impl Queue {
    fn new(rule: Rule) -> Self {
        Self { rule, state: Mutex::default(), wake: Notify::new() }
    }

    /// False: there is no room, or the connection is being closed.
    pub fn push(&self, item: Item) -> bool {
        let mut state = self.state();
        if state.finishing {
            return false;
        }
        match self.rule {
            Rule::Bounded { len, waiting } => {
                let full = state.len + item.bytes.len() > len || state.items.len() >= waiting;
                if state.len > 0 && full {
                    return false;
                }
                state.len += item.bytes.len();
            }
            Rule::NewestWins => state.items.clear(),
        }
        state.items.push_back(item);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// The next frame, when there is one. `None`: finished. Call `written` for each.
    pub async fn next(&self) -> Option<Item> {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
                }
                if state.finishing {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// A frame of this length left the queue for good.
    pub fn written(&self, len: usize) {
        let mut state = self.state();
        state.len = state.len.saturating_sub(len);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(len: usize, fill: u8) -> Item {
        Item { kind: Kind::Beat, bytes: Bytes::from(vec![fill; len]) }
    }

    #[tokio::test]
    async fn a_queue_is_full_at_its_bound_until_frames_are_written() {
        let outbox = Outbox::new();
        assert!(outbox.control.push(item(CONTROL_LEN_MAX, 1)));
        assert!(!outbox.control.push(item(1, 2)));
        let taken = outbox.control.next().await.map(|item| item.bytes.len());
        assert_eq!(taken, Some(CONTROL_LEN_MAX));
        assert!(!outbox.control.push(item(1, 2)), "a frame in the middle of being written counts");
        outbox.control.written(CONTROL_LEN_MAX);
        assert!(outbox.control.push(item(1, 2)));
    }

    #[tokio::test]
    async fn counts_are_refused_by_number_too() {
        let outbox = Outbox::new();
        let pushed = (0..200).filter(|_| outbox.counts.push(item(10, 1))).count();
        assert_eq!(pushed, COUNTS_WAITING_MAX);
        assert!(outbox.counts.next().await.is_some() && outbox.counts.push(item(10, 1)));
    }

    #[tokio::test]
    async fn rights_leave_room_for_what_must_not_be_lost() {
        let outbox = Outbox::new();
        assert!(outbox.control.push(item(RIGHTS_LEN_MAX, 1)) && outbox.push_right(item(1, 2)));
        assert!(!outbox.push_right(item(1, 2)) && outbox.control.push(item(1, 1)));
    }

    #[tokio::test]
    async fn an_empty_queue_takes_a_frame_above_its_bound() {
        assert!(Outbox::new().control.push(item(CONTROL_LEN_MAX + 1, 1)));
    }

    #[tokio::test]
    async fn of_gossip_the_newest_wins() {
        let outbox = Outbox::new();
        assert!(outbox.gossip.push(item(10, 1)) && outbox.gossip.push(item(10, 2)));
        outbox.finish();
        assert_eq!(outbox.gossip.next().await.map(|item| item.bytes[0]), Some(2));
        assert!(outbox.gossip.next().await.is_none());
    }

    #[tokio::test]
    async fn what_was_queued_is_still_taken_when_finishing() {
        let outbox = Outbox::new();
        assert!(outbox.control.push(item(1, 1)));
        outbox.finish();
        assert!(!outbox.control.push(item(1, 2)));
        assert!(outbox.control.next().await.is_some() && outbox.control.next().await.is_none());
    }
}

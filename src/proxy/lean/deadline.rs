//! One timer for everything that a connection waits for.
//!
//! What is waited for changes with every exchange, so a timer per wait would be set and unset all the time. This one is
//! moved only to ring earlier; when it rings too early it is set again. A busy connection moves it about once a minute.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The end of a connection's patience. For one task only: who polls it first is the one to be woken.
#[derive(Default)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// From now on this is the end.
    pub fn set(&mut self, at: Instant) {
        self.at = Some(at);
    }

    /// Ready when it is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = match &mut self.timer {
            // Whoever polled it last is woken when it rings.
            Some(timer) if timer.deadline() <= at && !timer.is_elapsed() => return Poll::Pending,
            Some(_) if Instant::now() >= at => return Poll::Ready(()),
            Some(timer) => {
                timer.as_mut().reset(at);
                timer
            }
            empty => empty.insert(Box::pin(tokio::time::sleep_until(at))),
        };
        timer.as_mut().poll(cx)
    }
}

/// How long an upstream that is read from has been silent.
///
/// A look at it, for whatever reason the task was woken, must not begin the wait anew: the timer's own ring is such a look.
#[derive(Default)]
pub struct Silence {
    since: Option<Instant>,
}

impl Silence {
    /// Something came; what follows has all its time, and none of it runs while the client is sent to.
    pub fn broken(&mut self) {
        self.since = None;
    }

    /// Nothing is there; when it has lasted for `limit`.
    pub fn ends(&mut self, limit: Duration) -> Instant {
        *self.since.get_or_insert_with(Instant::now) + limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_last_time_that_was_set() {
        let (mut deadline, start) = (Deadline::default(), Instant::now());
        let second = Duration::from_secs(1);
        for (first, then) in [(5, 9), (9, 5), (7, 7)] {
            let start = Instant::now();
            for at in [first, then] {
                deadline.set(start + second * at);
                let pending = std::future::poll_fn(|cx| Poll::Ready(deadline.poll(cx).is_pending())).await;
                assert!(pending);
            }
            std::future::poll_fn(|cx| deadline.poll(cx)).await;
            let late = start.elapsed() - second * then;
            assert!(late < second, "{first} {then}");
        }
        assert!(start.elapsed() >= second * 21);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_ends_where_it_began_to_and_not_where_it_was_looked_at() {
        let (mut silence, start, second) = (Silence::default(), Instant::now(), Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(silence.ends(5 * second), start + 5 * second);
            tokio::time::advance(second).await;
        }
        silence.broken();
        assert_eq!(silence.ends(5 * second), start + 8 * second);
    }
}

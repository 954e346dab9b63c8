//! Timers for everything that the data plane waits for.
//!
//! What a connection waits for changes several times in each exchange, so a timer for each wait would be set and cancelled
//! all the time. A `Deadline` is one timer per task: it is moved only to fire earlier, and is set again when it fires too
//! early. A busy connection moves it about once a minute.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The time when a wait fails. For one task: the task that polled first is the one that is woken.
#[derive(Default)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Replaces the time.
    pub fn set(&mut self, at: Instant) {
        self.at = Some(at);
    }

    /// Ready when the time is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = match &mut self.timer {
            // The timer has fired for nobody yet; it will, early enough.
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

/// How long one side has been silent.
///
/// A poll, whatever woke the task, does not restart the time: the timer's own firing is such a poll.
#[derive(Debug, Default)]
pub struct Silence {
    since: Option<Instant>,
}

impl Silence {
    /// Bytes moved: the next wait has its whole time.
    pub fn end(&mut self) {
        self.since = None;
    }

    /// Nothing moves now; returns the time when that has lasted for `limit`.
    pub fn fails_at(&mut self, limit: Duration) -> Instant {
        *self.since.get_or_insert_with(Instant::now) + limit
    }
}

/// Watches an operation that has a timer of its own. The timer exists only once the operation was pending.
#[derive(Default)]
pub struct Stall {
    silence: Silence,
    deadline: Deadline,
}

impl Stall {
    /// Passes what is ready; `Ready(None)` when the operation has been pending for `limit`.
    pub fn watch<T>(&mut self, cx: &mut Context<'_>, limit: Duration, polled: Poll<T>) -> Poll<Option<T>> {
        match polled {
            Poll::Ready(value) => {
                self.silence.end();
                Poll::Ready(Some(value))
            }
            Poll::Pending => {
                self.deadline.set(self.silence.fails_at(limit));
                self.deadline.poll(cx).map(|()| None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_last_time_that_was_set() {
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
    async fn a_silence_is_counted_from_its_beginning_and_not_from_a_poll() {
        let (mut silence, start, second) = (Silence::default(), Instant::now(), Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(silence.fails_at(5 * second), start + 5 * second);
            tokio::time::advance(second).await;
        }
        silence.end();
        assert_eq!(silence.fails_at(5 * second), start + 8 * second);
    }
}

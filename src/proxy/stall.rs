//! Notices when something has been pending for too long.
//!
//! The timer exists only once something was pending, so what never waits costs nothing; and it is set again only when
//! waiting begins, not for each poll.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Watches one operation that is polled again and again.
pub struct Stall {
    limit: Duration,
    waiting: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub fn new(limit: Duration) -> Self {
        Self { limit, waiting: false, timer: None }
    }

    /// Passes what is ready; `Ready(None)` when it has been pending for the limit.
    pub fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>) -> Poll<Option<T>> {
        match polled {
            Poll::Ready(value) => {
                self.waiting = false;
                Poll::Ready(Some(value))
            }
            Poll::Pending => self.overdue(cx).map(|()| None),
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.waiting {
            timer.as_mut().reset(deadline);
            self.waiting = true;
        }
        timer.as_mut().poll(cx)
    }
}

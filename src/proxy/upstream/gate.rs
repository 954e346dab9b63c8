//! Whom a connection wakes.
//!
//! Every step of an exchange wakes the connection's own waker: the request that is queued, the body that is asked for,
//! the frame that is taken. Whoever steps polls the connection anyway, so passing these on would only poll the client's
//! whole task once more each time, or, from a pooled connection, the task of the exchange before. So wakes go through
//! a gate: they are passed on while nobody is at work on the connection, kept while somebody is, and dropped while it
//! rests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Wakes are dropped.
const RESTING: u8 = 0;
/// Wakes go to the task.
const OPEN: u8 = 1;
/// Wakes are kept.
const HELD: u8 = 2;
/// One has been kept.
const WOKEN: u8 = 3;

/// Polls in a row for wakes that came during a poll; what wakes itself more often than this lets other tasks run.
const ROUNDS: usize = 3;

pub(super) struct Gate {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Default)]
struct Inner {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Gate {
    pub(super) fn new() -> Self {
        let inner = Arc::<Inner>::default();
        Self { waker: Waker::from(inner.clone()), inner }
    }

    /// Polls until it is ready or waits for something outside; then its wakes go to the task of `cx`.
    pub(super) fn poll<T>(&self, cx: &mut Context<'_>, mut step: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.inner.task.register(cx.waker());
        for _ in 0..ROUNDS {
            self.inner.state.store(HELD, Ordering::Release);
            let outcome = step(&mut Context::from_waker(&self.waker));
            let woken = self.inner.state.swap(OPEN, Ordering::AcqRel) == WOKEN;
            if outcome.is_ready() || !woken {
                return outcome;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does something to the connection's other end, after which the connection is polled in any case.
    pub(super) fn aside<T>(&self, step: impl FnOnce() -> T) -> T {
        let before = self.inner.state.swap(RESTING, Ordering::AcqRel);
        let outcome = step();
        self.inner.state.store(before, Ordering::Release);
        outcome
    }

    /// Forgets the task.
    pub(super) fn rest(&self) {
        self.inner.state.store(RESTING, Ordering::Release);
        self.inner.task.take();
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let kept = self.state.compare_exchange(HELD, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if kept == Err(OPEN) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_are_passed_on_only_while_nobody_is_at_work() {
        let count = Arc::<Count>::default();
        let woken = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(count.clone());
        let gate = Gate::new();
        gate.waker.wake_by_ref();
        assert_eq!(woken(), 0, "at rest");

        let mut polls = 0;
        let outcome = gate.poll(&mut Context::from_waker(&waker), |cx| {
            polls += 1;
            if polls == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(outcome.is_pending() && polls == 2 && woken() == 0, "a wake during a poll polls again");

        gate.waker.wake_by_ref();
        assert_eq!(woken(), 1, "from outside");
        assert!(gate.poll(&mut Context::from_waker(&waker), |_| Poll::<()>::Pending).is_pending());
        gate.aside(|| gate.waker.wake_by_ref());
        assert_eq!(woken(), 1, "from the other end");
        gate.waker.wake_by_ref();
        assert_eq!(woken(), 2, "open again");
        assert!(gate.poll(&mut Context::from_waker(&waker), |_| Poll::<()>::Pending).is_pending());
        gate.rest();
        gate.waker.wake_by_ref();
        assert_eq!((woken(), Arc::strong_count(&count)), (2, 2), "at rest, and the task forgotten");
    }

    #[test]
    fn what_wakes_itself_for_ever_lets_others_run() {
        let count = Arc::<Count>::default();
        let waker = Waker::from(count.clone());
        let mut polls = 0;
        let outcome = Gate::new().poll(&mut Context::from_waker(&waker), |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(outcome.is_pending());
        assert_eq!((polls, count.0.load(Ordering::Relaxed)), (ROUNDS, 1));
    }
}

//! What the keeper is asked to do, one thing at a time and in order, on a task of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_proto::Vector;
use tidegate_proto::frame::{Span, WholeRecord};
use tokio::sync::mpsc;

use crate::cluster::core::keeper::Keeper;

/// Spans that wait while the keeper is busy, by number and bytes. More are dropped: they show as a gap, which is repaired.
const WAITING_MAX: usize = 1_000;
const WAITING_LEN_MAX: usize = 16 << 20;

/// One thing for the keeper.
pub enum Order {
    Take(Vec<Span>),
    Adopt(Vector, Vec<WholeRecord>),
}

/// How it went: where the keeper stands, and whether it was a whole configuration.
pub struct Done {
    pub result: Result<Vector, String>,
    pub whole: bool,
}

/// The orders of one driver.
pub struct Work {
    waiting: VecDeque<Order>,
    spans: usize,
    len: usize,
    busy: bool,
    worker: mpsc::Sender<Order>,
}

impl Work {
    /// Starts the worker. Each order is answered by one `Done`.
    pub fn start(keeper: Arc<dyn Keeper>) -> (Self, mpsc::Receiver<Done>) {
        let (worker, orders) = mpsc::channel(1);
        let (answers, done) = mpsc::channel(1);
        tokio::spawn(work(keeper, orders, answers));
        (Self { waiting: VecDeque::new(), spans: 0, len: 0, busy: false, worker }, done)
    }

    /// False: too much is waiting, and the order was dropped.
    pub fn order(&mut self, order: Order) -> bool {
        if let Order::Take(spans) = &order {
            let len: usize = spans.iter().map(Span::size).sum();
            if self.busy && (self.spans + spans.len() > WAITING_MAX || self.len + len > WAITING_LEN_MAX) {
                return false;
            }
            self.spans += spans.len();
            self.len += len;
        }
        self.waiting.push_back(order);
        self.next();
        true
    }

    /// The worker has answered: it gets what waits, spans in one piece.
    pub fn done(&mut self) {
        self.busy = false;
        self.next();
    }

    fn next(&mut self) {
        if self.busy {
            return;
        }
        let Some(mut order) = self.waiting.pop_front() else { return };
        if let Order::Take(spans) = &mut order {
            while let Some(Order::Take(more)) = self.waiting.front_mut() {
                spans.append(more);
                self.waiting.pop_front();
            }
            self.spans -= spans.len();
            self.len -= spans.iter().map(Span::size).sum::<usize>();
        }
        // The worker takes one order per answer, so there is room.
        self.busy = self.worker.try_send(order).is_ok();
    }
}

async fn work(keeper: Arc<dyn Keeper>, mut orders: mpsc::Receiver<Order>, answers: mpsc::Sender<Done>) {
    while let Some(order) = orders.recv().await {
        let done = match order {
            Order::Take(spans) => Done { result: keeper.take(spans).await, whole: false },
            Order::Adopt(vector, records) => Done { result: keeper.adopt(vector, records).await, whole: true },
        };
        if answers.send(done).await.is_err() {
            return;
        }
    }
}

//! Runs a queue: a handle that worker threads push to, and one background task that delivers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::plugin::queue::core::{QueueCore, QueueNotice, QueueOutput, QueueTotals};
use crate::plugin::queue::options::QueueOptions;
use crate::plugin::tools::tasks::Tasks;

/// Time for what is left when the node stops; less than a background task has to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(3_500);
/// Time for what is left when the last handle is gone because the plugin was changed or deleted.
const ORPHAN_LIMIT: Duration = Duration::from_secs(60);

/// Delivers batches.
pub trait Sink<T>: Send + Sync {
    /// One attempt to deliver `batch`, which has at least one entry. The error is the reason for the log; the same batch
    /// is then given again after a pause. Dropping the future abandons the attempt.
    fn deliver(&self, batch: Arc<[T]>) -> BoxFuture<'static, Result<(), String>>;
}

/// A handle to a queue. Clones share it. When the last one is dropped, the queue sends what it holds, within a minute,
/// and ends; when the node stops, within 3.5 seconds.
pub struct Queue<T>(Arc<Handle<T>>);

struct Handle<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// `NAME plugin ID` and the queue's name, as Kong begins its log lines.
    label: String,
    core: Mutex<QueueCore<T>>,
    sink: Mutex<Arc<dyn Sink<T>>>,
    /// There is an output, an earlier time to wake at, or an end.
    news: Notify,
    orphaned: AtomicBool,
}

impl<T: Send + Sync + 'static> Queue<T> {
    /// Starts a queue; `label` begins its log lines. Where no task can be started (`Tools::none`, or a node that stops),
    /// the queue drops and counts everything.
    pub fn start(tasks: &dyn Tasks, label: String, options: QueueOptions, sink: Arc<dyn Sink<T>>) -> Self {
        let shared = Arc::new(Shared {
            label,
            core: Mutex::new(QueueCore::new(options)),
            sink: Mutex::new(sink),
            news: Notify::new(),
            orphaned: AtomicBool::new(false),
        });
        // Made before the task is: it also covers a task that never begins.
        let running = Running(shared.clone());
        let task = move |stop| -> BoxFuture<'static, ()> { Box::pin(run(running, stop)) };
        if let Err(error) = tasks.spawn("queue", Box::new(task)) {
            tracing::debug!(queue = shared.label, "the queue drops all entries: {error}");
        }
        Self(Arc::new(Handle(shared)))
    }

    /// Adds an entry whose size is `bytes` (for `max_bytes`). Never waits: what does not fit is dropped and counted. May
    /// be called from any thread, also outside of a runtime.
    pub fn push(&self, entry: T, bytes: usize) {
        let shared = &self.0.0;
        let mut core = shared.core();
        let before = core.wake_at();
        core.push(now(), entry, bytes);
        let news = core.has_output() || core.wake_at() != before;
        drop(core);
        if news {
            shared.news.notify_one();
        }
    }

    /// From the next attempt on, batches go to `sink`, also those that wait already: Kong delivers with the newest config.
    pub fn set_sink(&self, sink: Arc<dyn Sink<T>>) {
        *self.0.0.sink.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    pub fn totals(&self) -> QueueTotals {
        self.0.0.core().totals()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.0.orphaned.store(true, Ordering::Release);
        self.0.news.notify_one();
    }
}

impl<T> Shared<T> {
    fn core(&self) -> MutexGuard<'_, QueueCore<T>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sink(&self) -> Arc<dyn Sink<T>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn log(&self, notice: &QueueNotice) {
        let queue = self.label.as_str();
        match notice {
            QueueNotice::NearFull => tracing::warn!(queue, "queue at 80% capacity"),
            QueueNotice::Full => {
                tracing::error!(queue, "queue full, dropping old entries until processing is successful again");
            }
            QueueNotice::Resumed { dropped } => tracing::info!(queue, dropped, "queue resumed processing"),
            QueueNotice::BytesExceeded { dropped } => {
                tracing::error!(queue, "byte capacity exceeded, {dropped} queue entries were dropped");
            }
            QueueNotice::TooLarge { bytes, max_bytes } => tracing::error!(
                queue,
                "string to be queued is longer ({bytes} bytes) than the queue's max_bytes ({max_bytes} bytes)"
            ),
            QueueNotice::Failed { why, first: true } => {
                tracing::warn!(queue, "handler could not process entries: {why}");
            }
            QueueNotice::Failed { why, first: false } => {
                tracing::debug!(queue, "handler could not process entries: {why}");
            }
            QueueNotice::Recovered { lost } => tracing::info!(queue, lost, "handler processes entries again"),
            QueueNotice::GaveUp { lost, first: true } => tracing::error!(
                queue,
                "could not send entries due to max_retry_time exceeded. {lost} queue entries were lost"
            ),
            QueueNotice::GaveUp { lost, first: false } => tracing::debug!(
                queue,
                "could not send entries due to max_retry_time exceeded. {lost} queue entries were lost"
            ),
            QueueNotice::Ended { lost } => {
                tracing::error!(queue, "the queue ended before all was sent. {lost} queue entries were lost");
            }
        }
    }
}

/// Closes the queue when its task ends, however that happens: pushes are then counted as dropped, and held nowhere.
struct Running<T>(Arc<Shared<T>>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        let now = now();
        self.0.core().close(now, now);
    }
}

/// The outcome of one attempt.
type Attempt = (u64, Result<(), String>);

async fn run<T: Send + Sync + 'static>(running: Running<T>, stop: CancellationToken) {
    let shared = &running.0;
    let mut attempts: FuturesUnordered<BoxFuture<'static, Attempt>> = FuturesUnordered::new();
    let (mut stopping, mut orphaned) = (false, false);
    loop {
        let wake_at = begin_attempts(shared, &attempts);
        let Some(wake_at) = wake_at else { return };
        tokio::select! {
            Some((delivery, outcome)) = attempts.next(), if !attempts.is_empty() => {
                let (now, mut core) = (now(), shared.core());
                match outcome {
                    Ok(()) => core.delivered(now, delivery),
                    Err(why) => core.failed(now, delivery, why),
                }
            }
            () = shared.news.notified() => {
                if !orphaned && shared.orphaned.load(Ordering::Acquire) {
                    orphaned = true;
                    close(shared, ORPHAN_LIMIT);
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                close(shared, SHUTDOWN_LIMIT);
            }
            () = sleep_until(wake_at.into()) => shared.core().tick(now()),
        }
    }
}

/// The clock of the runtime, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn close<T>(shared: &Shared<T>, limit: Duration) {
    let now = now();
    shared.core().close(now, now + limit);
}

/// Does what the state machine asks for. Answers when it is to be woken; `None`: the queue is over.
fn begin_attempts<T: Send + Sync + 'static>(
    shared: &Shared<T>,
    attempts: &FuturesUnordered<BoxFuture<'static, Attempt>>,
) -> Option<Instant> {
    loop {
        let mut core = shared.core();
        let Some(output) = core.output() else {
            // Far enough away to be never, and near enough to be a time.
            let idle = || now() + Duration::from_secs(3_600);
            return if core.is_over() { None } else { Some(core.wake_at().unwrap_or_else(idle)) };
        };
        drop(core);
        match output {
            QueueOutput::Deliver { delivery, batch } => {
                let attempt = shared.sink().deliver(batch);
                attempts.push(Box::pin(async move { (delivery, attempt.await) }));
            }
            QueueOutput::Notice(notice) => shared.log(&notice),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

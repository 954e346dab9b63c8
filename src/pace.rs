//! Gives way to requests while a large configuration is taken in.
//!
//! Long work is done `aside`, by threads that stand back: a worker that wakes takes the core from them, and where requests
//! take all there is, a tenth is left. Even so they can keep the core, once a worker that is busy wakes, to the end of
//! their slice: some milliseconds, which a request then waits. So loops over all entities call `step`, which offers the
//! core before that. Parsing YAML and dropping a snapshot do not, and what a reload costs requests still is in
//! bench/README.md. The scheduler's idle class lost: under full load a change would never go live. Standing back with all
//! threads that are not the proxy's lost: what nodes tell each other about limits would wait for any other program.

use std::cell::Cell;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// A weight of 110 beside a worker's 1,024, by sched(7).
const NICE: i32 = 10;

/// Bytes of JSON between two looks at the clock: some tens of microseconds, where memory for what is read has to be
/// asked from the system too.
const READ_LEN: usize = 4 * 1024;

/// Bytes written at once. More calls of the system would cost more than they give way.
const WRITTEN_LEN: usize = 16 * 1024;

/// Steps between two looks at the clock. A step is up to 30 microseconds: checking the document of a route.
const STEPS: u32 = 4;

/// What a worker that wakes waits at most, when nothing else wants the core.
const STRETCH: Duration = Duration::from_micros(150);

thread_local! {
    static TAKEN: Cell<u32> = const { Cell::new(0) };
    /// When the core is offered next.
    static DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does long work on a thread for such. The error is the work's panic.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(|| {
        stand_back();
        work()
    })
    .await
}

/// The same for work that waits in between.
pub async fn all_aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    let runtime = Handle::current();
    aside(move || runtime.block_on(work)).await
}

/// Lets others go first on this thread, for good: only root may take it back. On Linux it is the thread's and not the
/// process's. Where it is refused, requests wait longer and nothing else.
fn stand_back() {
    if getpriority_process(None).is_ok_and(|nice| nice < NICE) {
        let _ = setpriority_process(None, NICE);
    }
}

/// What this thread has computed since it began. Unlike time, it does not grow while others have the core.
pub fn computed() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// One entity was looked at. Costs nothing to speak of; every so often another thread may run before it returns.
pub fn step() {
    let taken = TAKEN.get() + 1;
    if taken < STEPS {
        TAKEN.set(taken);
    } else {
        TAKEN.set(0);
        offer();
    }
}

/// Offers the core when it is time. Where others take it for long, it is kept as long before the next offer: half of it is
/// for the change, or it would take minutes on a machine that has no time left.
pub fn offer() {
    let now = Instant::now();
    if DUE.get().is_some_and(|due| now < due) {
        return;
    }
    std::thread::yield_now();
    let back = Instant::now();
    DUE.set(Some(back + STRETCH.max(back - now)));
}

/// Reads what is in memory, with offers in between.
pub fn reader(bytes: &[u8]) -> impl Read {
    BufReader::with_capacity(READ_LEN, Paced(bytes))
}

/// Hands on what is written, in larger pieces and with offers in between. Flush it at the end.
pub fn writer(to: impl Write) -> impl Write {
    BufWriter::with_capacity(WRITTEN_LEN, Paced(to))
}

struct Paced<T>(T);

impl<T: Read> Read for Paced<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        offer();
        self.0.read(buffer)
    }
}

impl<T: Write> Write for Paced<T> {
    /// Takes a piece: what is longer than a buffer comes here as it is.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        offer();
        self.0.write(&bytes[..bytes.len().min(WRITTEN_LEN)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Clones what is many, step by step.
pub fn copies<T: Clone>(items: &[T]) -> Vec<T> {
    items.iter().inspect(|_| step()).cloned().collect()
}

/// Drops what is many, step by step.
pub fn release<T>(items: impl IntoIterator<Item = T>) {
    for item in items {
        drop(item);
        step();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_aside_stands_back_and_its_caller_does_not() {
        let nice = || getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(aside(nice).await.unwrap(), before.max(NICE));
        assert_eq!(all_aside(async move { nice() }).await.unwrap(), before.max(NICE));
        assert_eq!(nice(), before);
    }

    #[test]
    fn computing_does_not_grow_while_others_have_the_core() {
        let before = computed();
        std::thread::sleep(Duration::from_millis(50));
        assert!(computed() - before < Duration::from_millis(25));
        let (begun, before) = (Instant::now(), computed());
        while computed() == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "the clock of this thread stands still");
        }
    }
}

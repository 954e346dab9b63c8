//! Gives way to requests while a large configuration is taken in.
//!
//! A thread that computes on and on keeps its core, once a worker there wakes, to the end of its slice: some milliseconds,
//! which a request then waits. So loops over all entities call `step`, which offers the core before that. Parsing YAML and
//! dropping a snapshot do not, and what a reload costs requests still is in bench/README.md.
//! A lower priority lost: measured, it does not end the slice earlier. The scheduler's idle class lost: it does, but where
//! requests take all there is, a change would never go live.

use std::cell::Cell;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::time::{Duration, Instant};

/// Bytes of JSON between two looks at the clock: some tens of microseconds.
const PIECE_LEN: usize = 16 * 1024;

/// Steps between two looks at the clock. A step is up to 30 microseconds: checking the document of a route.
const STEPS: u32 = 4;

/// What a worker that wakes waits at most, when nothing else wants the core.
const STRETCH: Duration = Duration::from_micros(150);

thread_local! {
    static TAKEN: Cell<u32> = const { Cell::new(0) };
    /// When the core is offered next.
    static DUE: Cell<Option<Instant>> = const { Cell::new(None) };
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
fn offer() {
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
    BufReader::with_capacity(PIECE_LEN, Paced(bytes))
}

/// Hands on what is written, in larger pieces and with offers in between. Flush it at the end.
pub fn writer(to: impl Write) -> impl Write {
    BufWriter::with_capacity(PIECE_LEN, Paced(to))
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
        self.0.write(&bytes[..bytes.len().min(PIECE_LEN)])
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

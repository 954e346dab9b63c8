//! Access log lines, written by a thread of their own; a request never waits for it.
//!
//! A request hands over reference-counted parts; this thread formats and writes them in batches. When the queue is
//! full the line is dropped and counted, and so are the lines of a batch that cannot be written: the alternative, to
//! wait, would let a slow disk slow the proxy.

mod format;
mod line;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::listen::access_log::format::Formatter;

pub use crate::listen::access_log::line::Line;

/// Lines of a log of clients' requests that wait for the writer; what comes on top is dropped. Their memory, 2.3 MB, is there
/// from the beginning.
pub const CLIENTS_LINES: usize = 8_192;
/// The same for a log of what operators and monitors ask.
pub const OPERATORS_LINES: usize = 256;
/// A batch is written when it is this long, or when the queue is empty.
const BATCH_BYTES: usize = 64 * 1024;
/// The writer rests so long after a batch, so that a busy node pays one wake-up for many lines, not one for each.
const REST: Duration = Duration::from_millis(20);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}

/// A handle that any number of threads write through. The thread ends, with the queue written, when the last is gone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// `None`: off.
    queue: Option<SyncSender<Item>>,
    shared: Arc<Shared>,
}

// Lines are not boxed: an allocation for each request would cost more than the memory of the queue.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Item {
    Line(Line),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// Looks at `Shared::reopen`.
    Wake,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

impl AccessLog {
    /// Opens the target and starts the writer thread; `Off` starts none. At most `lines_max` lines wait for it.
    pub fn open(target: Target, lines_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let Some(output) = Output::open(&target)? else {
            return Ok(Self { queue: None, shared });
        };
        let (queue, lines) = sync_channel(lines_max);
        let mut writer = Writer {
            target,
            output,
            shared: shared.clone(),
            formatter: Formatter::new(jiff::tz::TimeZone::system()),
            batch: Vec::with_capacity(BATCH_BYTES),
            batch_lines: 0,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&lines))?;
        Ok(Self { queue: Some(queue), shared })
    }

    /// Whether lines go nowhere, so that a caller need not make them.
    pub fn is_off(&self) -> bool {
        self.queue.is_none()
    }

    /// Queues the line, or counts it as dropped.
    pub fn write(&self, line: Line) {
        if let Some(queue) = &self.queue
            && queue.try_send(Item::Line(line)).is_err()
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file again (SIGHUP after rotation), before the next line is written.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        if let Some(queue) = &self.queue {
            // A full queue needs no wake: the writer is at work and sees the flag.
            let _ = queue.try_send(Item::Wake);
        }
    }

    /// Lines dropped since the start: the queue was full, or the target took no bytes.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes out what is queued; at most `limit` long. Blocks the calling thread.
    pub fn flush(&self, limit: Duration) {
        let Some(queue) = &self.queue else { return };
        let deadline = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = queue.try_send(item) {
            if Instant::now() >= deadline {
                return;
            }
            item = back;
            thread::sleep(Duration::from_millis(1));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

struct Writer {
    target: Target,
    output: Output,
    shared: Arc<Shared>,
    formatter: Formatter,
    batch: Vec<u8>,
    batch_lines: u64,
}

impl Writer {
    fn run(&mut self, items: &Receiver<Item>) {
        while let Ok(first) = items.recv() {
            self.take(first);
            loop {
                match items.try_recv() {
                    Ok(item) => self.take(item),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.put(),
                }
            }
            self.put();
            thread::sleep(REST);
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Line(line) => {
                self.formatter.append(&mut self.batch, &line);
                self.batch_lines += 1;
                if self.batch.len() >= BATCH_BYTES {
                    self.put();
                }
            }
            Item::Flush(done) => {
                self.put();
                let _ = done.try_send(());
            }
            Item::Wake => self.put(),
        }
    }

    fn put(&mut self) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.reopen();
        }
        if !self.batch.is_empty() && self.output.write(&self.batch).is_err() {
            self.shared.dropped.fetch_add(self.batch_lines, Ordering::Relaxed);
        }
        self.batch.clear();
        self.batch_lines = 0;
    }

    /// A file that cannot be opened again leaves the old one in use.
    fn reopen(&mut self) {
        match Output::open(&self.target) {
            Ok(Some(output)) => self.output = output,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the old access log stays open"),
        }
    }
}

/// An open target, also for the error log.
pub enum Output {
    Stdout,
    Stderr,
    File(File),
}

impl Output {
    /// `None` for `Off`. Folders of a file are made.
    pub fn open(target: &Target) -> io::Result<Option<Self>> {
        match target {
            Target::Off => Ok(None),
            Target::Stdout => Ok(Some(Self::Stdout)),
            Target::Stderr => Ok(Some(Self::Stderr)),
            Target::File(path) => append_to(path).map(Self::File).map(Some).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot open the log {}: {error}", path.display()))
            }),
        }
    }

    /// All of `batch`, past every buffer of this process.
    pub fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(batch),
            Self::File(file) => file.write_all(batch),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::{Method, Version};
    use std::time::SystemTime;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn line(path: &str) -> Line {
        Line {
            remote: "127.0.0.1".parse().unwrap(),
            at: SystemTime::UNIX_EPOCH,
            method: Method::GET,
            target: path.to_owned().into(),
            version: Version::HTTP_11,
            status: 200,
            body_bytes: 0,
            referer: None,
            user_agent: None,
            request_id: [b'0'; 32],
        }
    }

    #[test]
    fn lines_arrive_in_order_and_follow_the_file_after_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("logs/access.log"), folder.path().join("logs/access.log.1"));
        let log = AccessLog::open(Target::File(path.clone()), CLIENTS_LINES).unwrap();
        log.write(line("/one"));
        log.write(line("/two"));
        log.flush(PATIENCE);
        fs::rename(&path, &rotated).unwrap();
        log.reopen();
        log.write(line("/three"));
        log.flush(PATIENCE);
        let paths = |file: &Path| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().map(|line| line.split(' ').nth(6).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&rotated), ["/one", "/two"]);
        assert_eq!(paths(&path), ["/three"]);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_target_that_takes_nothing_costs_lines_and_not_the_thread() {
        let log = AccessLog::open(Target::File("/dev/full".into()), CLIENTS_LINES).unwrap();
        for round in 1..=2 {
            log.write(line("/lost"));
            log.flush(PATIENCE);
            assert_eq!(log.dropped(), round);
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, lines) = sync_channel(2);
        let log = AccessLog { queue: Some(queue), shared: Arc::default() };
        (0..5).for_each(|_| log.write(line("/")));
        assert_eq!(log.dropped(), 3);
        log.flush(Duration::ZERO);
        drop(lines);
        log.flush(PATIENCE);
    }

    #[test]
    fn off_writes_nothing_and_an_impossible_path_is_named() {
        let log = AccessLog::open(Target::Off, 1).unwrap();
        log.write(line("/"));
        log.flush(PATIENCE);
        assert!(log.is_off() && log.dropped() == 0);
        let error = AccessLog::open(Target::File("/dev/null/access.log".into()), CLIENTS_LINES).unwrap_err();
        assert!(error.to_string().starts_with("cannot open the log /dev/null/access.log: "), "{error}");
    }
}

//! The thread that writes the error log. Whoever logs never waits: when the queue is full the line is dropped, and the
//! log itself says how many went missing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::listen::access_log::{Output, Target};

/// Lines waiting for the writer.
const QUEUE_LINES: usize = 4_096;

/// A handle that any number of threads write through.
#[derive(Clone, Debug)]
pub struct ErrorLog {
    /// `None`: off.
    queue: Option<SyncSender<Item>>,
    dropped: Arc<AtomicU64>,
}

/// Takes one whole line per `write`.
pub struct LineWriter<'a>(&'a ErrorLog);

#[derive(Debug)]
enum Item {
    Line(Box<[u8]>),
    Reopen,
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl ErrorLog {
    pub fn open(target: Target) -> io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        let Some(output) = Output::open(&target)? else {
            return Ok(Self { queue: None, dropped });
        };
        let (queue, items) = sync_channel(QUEUE_LINES);
        let counter = dropped.clone();
        thread::Builder::new()
            .name("error-log".to_owned())
            .spawn(move || write_all(target, output, &items, &counter))?;
        Ok(Self { queue: Some(queue), dropped })
    }

    pub fn reopen(&self) {
        self.put(Item::Reopen);
    }

    /// Writes out what is queued; at most `limit` long. A full queue is not waited for.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.put(Item::Flush(done)) {
            let _ = written.recv_timeout(limit);
        }
    }

    fn put(&self, item: Item) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(item).is_ok())
    }
}

impl<'a> MakeWriter<'a> for ErrorLog {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.queue.is_some() && !self.0.put(Item::Line(line.into())) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(target: Target, mut output: Output, items: &Receiver<Item>, dropped: &AtomicU64) {
    for item in items {
        // There is nobody left to tell when the error log itself cannot be written; the next line may fare better.
        match item {
            Item::Line(line) => {
                let _ = output.write(&line);
            }
            Item::Reopen => {
                if let Ok(Some(reopened)) = Output::open(&target) {
                    output = reopened;
                }
            }
            Item::Flush(done) => {
                let _ = done.try_send(());
            }
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = output.write(format!("[error] {missing} lines of this log were dropped\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn lines_follow_the_file_after_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("error.log"), folder.path().join("error.log.1"));
        let log = ErrorLog::open(Target::File(path.clone())).unwrap();
        log.make_writer().write_all(b"one\n").unwrap();
        log.flush(PATIENCE);
        fs::rename(&path, &rotated).unwrap();
        log.reopen();
        log.make_writer().write_all(b"two\n").unwrap();
        log.flush(PATIENCE);
        assert_eq!(fs::read(&rotated).unwrap(), b"one\n");
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
    }

    #[test]
    fn off_swallows_lines() {
        let log = ErrorLog::open(Target::Off).unwrap();
        log.make_writer().write_all(b"one\n").unwrap();
        log.flush(PATIENCE);
        assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
    }
}

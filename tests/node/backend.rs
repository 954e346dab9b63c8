//! Backends that tests put behind a node: one that answers every request, and one that does whatever a test says with
//! each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Ends with the test process.
pub struct Backend {
    pub address: SocketAddr,
    /// Request heads read (only of `answering`).
    requests: Arc<AtomicUsize>,
    last_head: Arc<Mutex<String>>,
}

/// The head of a request, and what its body is framed by.
pub struct Head {
    pub text: String,
    length: u64,
    chunked: bool,
}

impl Backend {
    /// Answers 200 with `ok` to every request, whatever its body, on kept-alive connections.
    pub fn answering() -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let last_head = Arc::new(Mutex::new(String::new()));
        let (count, last) = (requests.clone(), last_head.clone());
        let backend = Self::with(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
            let mut stream = stream;
            while let Some(head) = read_head(&mut reader) {
                count.fetch_add(1, Ordering::SeqCst);
                *last.lock().unwrap() = head.text.clone();
                if skip_body(&mut reader, &head).is_none() {
                    return;
                }
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
        });
        Self { requests, last_head, ..backend }
    }

    /// Hands every connection to `serve`, on a thread of its own.
    pub fn with(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, requests: Arc::default(), last_head: Arc::default() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of the last request, as it came (only of `answering`).
    pub fn last_head(&self) -> String {
        self.last_head.lock().unwrap().clone()
    }

    pub fn request_count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Reads a request's head; `None` at the end of the connection. Bytes that are not UTF-8 are kept as U+FFFD, because a
/// query may hold any.
pub fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Head> {
    let mut head = Head { text: String::new(), length: 0, chunked: false };
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() && !head.text.is_empty() {
            return Some(head);
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            head.length = value.trim().parse().ok()?;
        }
        head.chunked |= text.starts_with("transfer-encoding:");
        head.text += &line;
    }
}

fn skip_body(reader: &mut BufReader<TcpStream>, head: &Head) -> Option<()> {
    if !head.chunked {
        return skip(reader, head.length);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        skip(reader, size + 2)?;
        if size == 0 {
            return Some(());
        }
    }
}

fn skip(reader: &mut BufReader<TcpStream>, length: u64) -> Option<()> {
    let skipped = std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    (skipped == length).then_some(())
}

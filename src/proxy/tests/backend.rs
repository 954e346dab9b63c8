//! A backend of raw bytes: a function from what it has read to what it writes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::proxy::tests::client::header;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub head: String,
    /// The head before it was made text.
    pub raw: Vec<u8>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Script = dyn Fn(&Seen, usize) -> Vec<u8> + Send + Sync;

impl Backend {
    /// Answers each request with these bytes.
    pub fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |_, _| answer.clone())
    }

    /// Answers by a script, which also gets how many requests came before. No bytes, or `Connection: close` among
    /// them, close the connection.
    pub fn start(script: impl Fn(&Seen, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.3:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, kept): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &*script, &kept));
            }
        });
        Self { address, seen }
    }

    /// Hands each connection, whose request head has been read, to `then`.
    pub fn tunnelling(then: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.3:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                read_head(&mut BufReader::with_capacity(1, stream.try_clone().unwrap()));
                then(stream);
            }
        });
        address
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn last_bytes(&self) -> Vec<u8> {
        self.last().raw
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request at the backend")
    }
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(raw) = read_head(&mut reader) {
        let head = String::from_utf8_lossy(&raw).into_owned();
        let Some(body) = read_body(&mut reader, &head) else { return };
        let request = Seen { head, raw, body };
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let answer = script(&request, before);
        let closes =
            answer.is_empty() || String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("connection: close");
        if stream.write_all(&answer).is_err() || closes {
            return;
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn read_body(reader: &mut impl BufRead, head: &str) -> Option<Vec<u8>> {
    if header(head, "transfer-encoding").is_some() {
        return read_chunks(reader);
    }
    let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

//! The upstreams of the scenarios: four loopback servers, a TCP and a UDP sink, that keep what they received.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What the upstreams received since the last `clear`, oldest first, in the order of arrival.
type Log = Arc<Mutex<Vec<Value>>>;

/// Lives as long as the test process: its threads end with it.
pub struct Upstream {
    log: Log,
    pub ports: Vec<u16>,
    pub tcp_port: u16,
    pub udp_port: u16,
    /// Nobody listens there.
    pub dead_port: u16,
}

impl Upstream {
    pub fn start() -> io::Result<Self> {
        let log = Log::default();
        let ports = (1..=4).map(|number| serve(number, log.clone())).collect::<io::Result<_>>()?;
        let (tcp_port, udp_port) = (serve_tcp(log.clone())?, serve_udp(log.clone())?);
        let dead_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { log, ports, tcp_port, udp_port, dead_port })
    }

    pub fn clear(&self) {
        lock(&self.log).clear();
    }

    /// How many requests came so far.
    pub fn mark(&self) -> usize {
        lock(&self.log).len()
    }

    pub fn since(&self, mark: usize) -> Vec<Value> {
        lock(&self.log).get(mark..).unwrap_or_default().to_vec()
    }
}

fn lock(log: &Log) -> std::sync::MutexGuard<'_, Vec<Value>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note_text(log: &Log, word: &str, raw: &[u8]) {
    let text = String::from_utf8_lossy(raw).into_owned();
    let parsed: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    lock(log).push(json!({"method": word.to_uppercase(), "path": format!("/{word}"), "query": "", "headers": {},
        "body": text, "json": parsed, "server": 0}));
}

fn serve_tcp(log: Log) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = log.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    note_text(&log, "tcp", &line);
                }
            });
        }
    });
    Ok(port)
}

fn serve_udp(log: Log) -> io::Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(size) = socket.recv(&mut buffer) {
            note_text(&log, "udp", &buffer[..size]);
        }
    });
    Ok(port)
}

fn serve(number: u8, log: Log) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = log.clone();
            thread::spawn(move || Connection { number, log, stream }.run());
        }
    });
    Ok(port)
}

struct Connection {
    number: u8,
    log: Log,
    stream: TcpStream,
}

/// A request as it came in.
struct Request {
    method: String,
    path: String,
    query: String,
    headers: serde_json::Map<String, Value>,
    body: Vec<u8>,
}

impl Connection {
    fn run(mut self) {
        let _ = self.stream.set_nodelay(true);
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(120)));
        let Ok(copy) = self.stream.try_clone() else { return };
        let mut reader = BufReader::new(copy);
        while let Ok(request) = read_request(&mut reader) {
            let close = request.headers.get("connection").is_some_and(|value| value == "close");
            if self.answer(&request).is_err() || close || self.number == 4 {
                break;
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn answer(&mut self, request: &Request) -> io::Result<()> {
        let seen = json!({"method": request.method, "path": request.path, "query": request.query,
            "headers": request.headers, "body": String::from_utf8_lossy(&request.body), "server": self.number});
        let times = self.note(seen.clone(), request);
        let payload = seen.to_string().into_bytes();
        let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let last = parts.last().copied().unwrap_or_default();
        let word = if parts.len() > 1 { parts[parts.len() - 2] } else { "" };
        let number = last.parse::<u64>().ok();
        match (word, number, last) {
            ("status", Some(status), _) => self.send(request, status as u16, &payload, "application/json", &[]),
            ("delay", Some(wait_ms), _) => {
                thread::sleep(Duration::from_millis(wait_ms));
                self.send(request, 200, &payload, "application/json", &[])
            }
            ("bytes", Some(size), _) => {
                self.send(request, 200, &vec![b'x'; size as usize], "application/octet-stream", &[])
            }
            ("chunks", Some(count), _) => self.send_chunks(request, count),
            ("flaky", Some(failures), _) if times <= failures as usize => Err(io::ErrorKind::ConnectionAborted.into()),
            (_, _, "close") => Err(io::ErrorKind::ConnectionAborted.into()),
            (_, _, "headers") => self.send(request, 200, &payload, "application/json", &pairs(&request.query)),
            (_, _, "answer") => self.send_given(request),
            _ => self.send(request, 200, &payload, "application/json", &[]),
        }
    }

    /// Keeps the request, and says how many came for its path so far.
    fn note(&self, mut seen: Value, request: &Request) -> usize {
        seen["json"] = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let mut log = lock(&self.log);
        log.push(seen);
        log.iter().filter(|one| one["path"] == request.path.as_str()).count()
    }

    fn send_given(&mut self, request: &Request) -> io::Result<()> {
        let given = pairs(&request.query);
        let own = |name: &str| given.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let status = own("_status").and_then(|text| text.parse().ok()).unwrap_or(200);
        let extra: Vec<_> = given.iter().filter(|(key, _)| !key.starts_with('_')).cloned().collect();
        let kind = own("_type").unwrap_or_else(|| "text/plain".to_owned());
        self.send(request, status, own("_body").unwrap_or_default().as_bytes(), &kind, &extra)
    }

    fn send(
        &mut self,
        request: &Request,
        status: u16,
        payload: &[u8],
        kind: &str,
        extra: &[(String, String)],
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Status\r\nServer: scenario-upstream\r\nDate: {DATE}\r\n");
        if self.number == 4 {
            head += "Connection: close\r\n";
        }
        let has_body = status >= 200 && status != 204 && status != 304;
        if has_body {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", payload.len());
        }
        for (name, value) in extra {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let body = if has_body && request.method != "HEAD" { payload } else { b"" };
        self.stream.write_all(&[head.as_bytes(), body].concat())
    }

    fn send_chunks(&mut self, request: &Request, count: u64) -> io::Result<()> {
        let mut text = format!(
            "HTTP/1.1 200 OK\r\nServer: scenario-upstream\r\nDate: {DATE}\r\n\
             Content-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        if request.method != "HEAD" {
            for i in 1..=count {
                let line = format!("chunk {i}\n");
                text += &format!("{:x}\r\n{line}\r\n", line.len());
            }
            text += "0\r\n\r\n";
        }
        self.stream.write_all(text.as_bytes())
    }
}

const DATE: &str = "Tue, 24 Nov 2026 11:00:00 GMT";

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Request> {
    let line = read_line(reader)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = serde_json::Map::new();
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        let (name, value) = (name.to_lowercase(), value.trim());
        let joined = match headers.get(&name).and_then(Value::as_str) {
            Some(known) => format!("{known}, {value}"),
            None => value.to_owned(),
        };
        headers.insert(name, Value::String(joined));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = read_body(reader, &headers)?;
    Ok(Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers, body })
}

fn read_body(reader: &mut BufReader<TcpStream>, headers: &serde_json::Map<String, Value>) -> io::Result<Vec<u8>> {
    let text = |name: &str| headers.get(name).and_then(Value::as_str).unwrap_or_default();
    if !text("transfer-encoding").contains("chunked") {
        let mut body = vec![0; text("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body)?;
        return Ok(body);
    }
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        if size == 0 {
            while !read_line(reader)?.is_empty() {}
            return Ok(body);
        }
        let mut chunk = vec![0; size];
        reader.read_exact(&mut chunk)?;
        body.extend(chunk);
        read_line(reader)?;
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text: String = match String::from_utf8(line) {
        Ok(text) => text,
        Err(error) => error.into_bytes().iter().map(|&byte| char::from(byte)).collect(),
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

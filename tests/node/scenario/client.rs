//! An HTTP/1.1 client that sends exactly what a scenario writes, over one kept-alive connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tidegate::listen::trust::AcceptAny;

const MAX_BODY: usize = 32 << 20;

/// What came back. Names are lower-case; repeated headers are joined by `, `.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Why no usable answer came.
#[derive(Debug)]
pub struct NoAnswer {
    pub text: String,
    /// The time was over, rather than the connection.
    pub hung: bool,
}

/// One kept-alive connection to one listener.
pub struct Client {
    pub address: SocketAddr,
    tls: bool,
    sni: Option<String>,
    connection: Option<BufReader<Stream>>,
    /// The server's certificate of the last TLS connection, DER.
    pub certificate: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr, tls: bool) -> Self {
        Self { address, tls, sni: None, connection: None, certificate: Vec::new() }
    }

    /// The TLS server name of the next requests; another one means another connection.
    pub fn name_server(&mut self, sni: Option<String>) {
        if self.sni != sni {
            self.connection = None;
            self.sni = sni;
        }
    }

    /// Sends and reads one answer. A kept-alive connection that turns out closed is replaced once.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
        limit: Duration,
    ) -> Result<Answer, NoAnswer> {
        let head = self.head(method, path, headers, body);
        let reused = self.connection.is_some();
        match self.exchange(&head, body, method, limit) {
            Err(error) if reused && closed(&error) => self.exchange(&head, body, method, limit).map_err(no_answer),
            other => other.map_err(no_answer),
        }
    }

    /// Sends text as it stands on a connection of its own and reads one answer.
    pub fn raw(&mut self, text: &str, limit: Duration) -> Result<Answer, NoAnswer> {
        self.connection = None;
        let method = text.split(' ').next().unwrap_or_default().to_owned();
        let answer = self.exchange(text.as_bytes(), b"", &method, limit).map_err(no_answer);
        self.connection = None;
        answer
    }

    fn head(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
        let names = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !names("host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let framed = names("transfer-encoding") || names("content-length");
        if !framed && (!body.is_empty() || ["POST", "PUT", "PATCH"].contains(&method)) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        (head + "\r\n").into_bytes()
    }

    fn exchange(&mut self, head: &[u8], body: &[u8], method: &str, limit: Duration) -> io::Result<Answer> {
        let deadline = Instant::now() + limit;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(self.open(limit)?),
        };
        let stream = connection.get_mut();
        stream.set_deadline(deadline)?;
        stream.write_all(&[head, body].concat())?;
        let (answer, keep) = read_answer(&mut connection, method, deadline)?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn open(&mut self, limit: Duration) -> io::Result<Stream> {
        let mut socket = TcpStream::connect_timeout(&self.address, limit)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(limit))?;
        if !self.tls {
            return Ok(Stream::Plain(socket));
        }
        let name = self.sni.clone().unwrap_or_else(|| self.address.ip().to_string());
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(tls_config(), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        self.certificate =
            session.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec()).unwrap_or_default();
        Ok(Stream::Tls(Box::new(StreamOwned::new(session, socket))))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn set_deadline(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket().set_read_timeout(Some(left))?;
        self.socket().set_write_timeout(Some(left))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Reads one answer, skipping interim ones, and says whether the connection may be used again.
fn read_answer(reader: &mut BufReader<Stream>, method: &str, deadline: Instant) -> io::Result<(Answer, bool)> {
    let (version, status, headers) = loop {
        let head = read_head(reader, deadline)?;
        if head.1 >= 200 || head.1 == 101 {
            break head;
        }
    };
    let mut answer = Answer { status, headers, body: Vec::new() };
    let closing = answer.header("connection").is_some_and(|value| value.to_lowercase().contains("close"));
    let mut keep = version == "HTTP/1.1" && !closing && status != 101;
    let bodiless = method == "HEAD" || status == 101 || status == 204 || status == 304;
    if bodiless {
        return Ok((answer, keep));
    }
    if answer.header("transfer-encoding").is_some_and(|value| value.to_lowercase().contains("chunked")) {
        answer.body = read_chunks(reader, deadline)?;
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse().map_err(|_| broken("Content-Length is no number"))?;
        answer.body = read_exactly(reader, length, deadline)?;
    } else {
        keep = false;
        answer.body = read_to_end(reader, deadline)?;
    }
    Ok((answer, keep))
}

type Head = (String, u16, Vec<(String, String)>);

fn read_head(reader: &mut BufReader<Stream>, deadline: Instant) -> io::Result<Head> {
    let line = read_line(reader, deadline)?;
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or_default().to_owned();
    let status = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| broken(&line))?;
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let line = read_line(reader, deadline)?;
        if line.is_empty() {
            return Ok((version, status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
        let (name, value) = (name.to_lowercase(), value.trim());
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, joined)) => *joined = format!("{joined}, {value}"),
            None => headers.push((name, value.to_owned())),
        }
    }
}

fn read_line(reader: &mut BufReader<Stream>, deadline: Instant) -> io::Result<String> {
    reader.get_ref().set_deadline(deadline)?;
    let mut line = Vec::new();
    reader.by_ref().take(1 << 20).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text: String = match String::from_utf8(line) {
        Ok(text) => text,
        Err(error) => error.into_bytes().iter().map(|&byte| char::from(byte)).collect(),
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_exactly(reader: &mut BufReader<Stream>, length: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(broken("the body is too long"));
    }
    let mut body = vec![0; length];
    let mut filled = 0;
    while filled < length {
        reader.get_ref().set_deadline(deadline)?;
        match reader.read(&mut body[filled..])? {
            0 => return Err(broken("the body ended early")),
            count => filled += count,
        }
    }
    Ok(body)
}

fn read_chunks(reader: &mut BufReader<Stream>, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader, deadline)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| broken("a chunk's size is no number"))?;
        if size == 0 {
            while !read_line(reader, deadline)?.is_empty() {}
            return Ok(body);
        }
        if body.len() + size > MAX_BODY {
            return Err(broken("the body is too long"));
        }
        body.extend(read_exactly(reader, size, deadline)?);
        read_line(reader, deadline)?;
    }
}

fn read_to_end(reader: &mut BufReader<Stream>, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut part = [0; 8192];
    loop {
        reader.get_ref().set_deadline(deadline)?;
        match reader.read(&mut part)? {
            0 => return Ok(body),
            count if body.len() + count > MAX_BODY => return Err(broken("the body is too long")),
            count => body.extend_from_slice(&part[..count]),
        }
    }
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

fn closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

fn no_answer(error: io::Error) -> NoAnswer {
    let hung = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
    NoAnswer { text: format!("no usable answer: {error}"), hung }
}

/// A client configuration that accepts whatever certificate the gateway shows.
fn tls_config() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny::new(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

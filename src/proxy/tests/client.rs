//! A client that sends what it is told, byte for byte, and reads answers strictly.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// As `send`, where the other side may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn finish(&mut self) {
        // The other side may have closed already, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn answer(&mut self, method: &str) -> Answer {
        let head = self.head();
        let status = head[9..12].parse().unwrap();
        let bodiless = method == "HEAD" || status == 204 || status == 304 || status / 100 == 1;
        let mut answer = Answer { status, head, body: Vec::new() };
        if !bodiless {
            answer.body = self.body(&answer);
        }
        answer
    }

    pub fn head(&mut self) -> String {
        let end = self.read_until(b"\r\n\r\n");
        String::from_utf8(self.take(end)).unwrap()
    }

    fn body(&mut self, answer: &Answer) -> Vec<u8> {
        if answer.header("transfer-encoding") == Some("chunked") {
            return self.chunked();
        }
        match answer.header("content-length") {
            Some(length) => {
                let length = length.parse().unwrap();
                self.read_bytes(length)
            }
            None => self.rest(),
        }
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = self.read_until(b"\r\n");
            let line = String::from_utf8(self.take(end)).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.read_bytes(size));
            assert_eq!(self.read_bytes(2), b"\r\n");
        }
        loop {
            let end = self.read_until(b"\r\n");
            let line = self.take(end);
            if line == b"\r\n" {
                return body;
            }
            body.extend_from_slice(b"|");
            body.extend_from_slice(&line[..line.len() - 2]);
        }
    }

    pub fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill(), "closed after {} of {length} bytes", self.buffer.len());
        }
        self.take(length)
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Nothing more comes: the other side has closed, in whatever way.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty() && !matches!(self.stream.read(&mut byte), Ok(1..))
    }

    fn read_until(&mut self, mark: &[u8]) -> usize {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return at + mark.len();
            }
            assert!(self.fill(), "closed after {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(length) => {
                self.buffer.extend_from_slice(&piece[..length]);
                length > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.buffer.drain(..length).collect()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

/// The first header of this name in a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

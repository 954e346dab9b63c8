//! The PROXY protocol, versions 1 and 2: a balancer in front of us says whose connection this is, before the first byte
//! of it.
//!
//! Exactly the header is read, so TLS or HTTP finds its own first byte next. What is no such header ends the
//! connection: on a listener that expects one, everybody else would be posing as the balancer's client.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::proxy::exchange::client_address::canonical;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LINE_BYTES: usize = 107;
/// Addresses and extensions of version 2; the extensions are not used.
const BLOCK_BYTES: usize = 2048;

/// Reads the header; whose connection it is, when the header says.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE { read_block(stream).await } else { read_line(stream, &start).await }
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> io::Result<Option<IpAddr>> {
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(broken());
    }
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_BYTES {
            return Err(broken());
        }
        line.push(stream.read_u8().await?);
    }
    let text = str::from_utf8(&line).map_err(|_| broken())?;
    let mut words = text.trim_end().split(' ').skip(1);
    match (words.next(), words.next()) {
        (Some("UNKNOWN"), _) => Ok(None),
        (Some("TCP4"), Some(source)) => Ok(Some(source.parse::<Ipv4Addr>().map_err(|_| broken())?.into())),
        (Some("TCP6"), Some(source)) => Ok(Some(canonical(source.parse::<Ipv6Addr>().map_err(|_| broken())?.into()))),
        _ => Err(broken()),
    }
}

async fn read_block<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > BLOCK_BYTES {
        return Err(broken());
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    match (command, family >> 4) {
        // The balancer speaks for itself, as in its health checks.
        (0x20, _) => Ok(None),
        (0x21, 1) => Ok(Some(IpAddr::from(*block.first_chunk::<4>().ok_or_else(broken)?))),
        (0x21, 2) => Ok(Some(canonical(IpAddr::from(*block.first_chunk::<16>().ok_or_else(broken)?)))),
        (0x21, _) => Ok(None),
        _ => Err(broken()),
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn check(header: &[u8], expected: Option<Option<&str>>) {
        let mut stream = header.to_vec();
        stream.extend_from_slice(b"GET ");
        let mut left = &stream[..];
        let read = read(&mut left).await.ok();
        assert_eq!(read, expected.map(|said| said.map(|said| said.parse().unwrap())), "{header:?}");
        if read.is_some() {
            assert_eq!(left, b"GET ", "{header:?}");
        }
    }

    fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    #[tokio::test]
    async fn a_line_names_the_client() {
        check(b"PROXY TCP4 192.0.2.1 10.0.0.1 5678 80\r\n", Some(Some("192.0.2.1"))).await;
        check(b"PROXY TCP6 2001:db8::1 ::1 5678 80\r\n", Some(Some("2001:db8::1"))).await;
        check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5678 80\r\n", Some(Some("192.0.2.1"))).await;
        check(b"PROXY UNKNOWN\r\n", Some(None)).await;
        check(b"PROXY UNKNOWN whatever else\r\n", Some(None)).await;
    }

    #[tokio::test]
    async fn a_block_names_the_client_and_may_say_more() {
        check(&block(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 0, 80, 3, 0, 1, 9]), Some(Some("192.0.2.1"))).await;
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0; 16]].concat();
        check(&block(0x21, 0x21, &[&v6[..], &[1, 2, 0, 80]].concat()), Some(Some("2001:db8::1"))).await;
        check(&block(0x20, 0, &[]), Some(None)).await;
        check(&block(0x21, 0x31, &[0; 216]), Some(None)).await;
    }

    #[tokio::test]
    async fn everything_else_is_broken() {
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None).await;
        check(b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n", None).await;
        check(b"PROXY TCP4 ::1 10.0.0.1 1 2\r\n", None).await;
        check(format!("PROXY TCP4 {}\r\n", "1".repeat(200)).as_bytes(), None).await;
        check(b"PROXY ", None).await;
        check(&block(0x31, 0x11, &[0; 12]), None).await;
        check(&block(0x21, 0x11, &[0; 3]), None).await;
        check(&block(0x21, 0x11, &[0; 3000]), None).await;
    }
}

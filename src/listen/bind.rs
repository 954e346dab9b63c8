//! Listening sockets.
//!
//! With `reuseport` every worker gets a socket of its own and the kernel spreads connections over them; without, the
//! workers share one. The flag would also let a second node share the port unnoticed, so the address is first bound
//! once without it: a port that somebody else listens on is an error, as a Kong user expects.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// One entry of a `*_listen` property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub socket: SocketAddr,
    pub ssl: bool,
    pub http2: bool,
    pub reuseport: bool,
    pub backlog: u32,
    pub ipv6only: bool,
    pub proxy_protocol: bool,
}

impl Address {
    /// Plain HTTP/1.1 on `socket`, with the defaults of every flag.
    ///
    /// Kong: `ipv6only` is on unless the entry says otherwise, so `[::]:8000` and `0.0.0.0:8000` can stand side by side.
    pub fn plain(socket: SocketAddr) -> Self {
        Self {
            socket,
            ssl: false,
            http2: false,
            reuseport: false,
            backlog: 16_384,
            ipv6only: true,
            proxy_protocol: false,
        }
    }
}

/// Binds `copies` non-blocking sockets: with `reuseport` one each, else the same socket duplicated.
///
/// Port 0 becomes one port of the system's choice, the same for all copies.
pub fn bind(address: &Address, copies: usize) -> io::Result<Vec<TcpListener>> {
    bind_all(address, copies).map_err(|error| refusal(address.socket, &error))
}

fn bind_all(address: &Address, copies: usize) -> io::Result<Vec<TcpListener>> {
    if !address.reuseport {
        let listener = listen(address, address.socket, false)?;
        return (0..copies).map(|_| listener.try_clone()).collect();
    }
    let socket = free_address(address)?;
    (0..copies).map(|_| listen(address, socket, true)).collect()
}

/// Fails when somebody listens there already; the probing socket never listens, so nobody can connect to it.
fn free_address(address: &Address) -> io::Result<SocketAddr> {
    let probe = open(address, address.socket, false)?;
    probe.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn listen(address: &Address, socket: SocketAddr, reuseport: bool) -> io::Result<TcpListener> {
    let opened = open(address, socket, reuseport)?;
    opened.listen(i32::try_from(address.backlog).unwrap_or(i32::MAX))?;
    Ok(opened.into())
}

fn open(address: &Address, at: SocketAddr, reuseport: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(address.ipv6only)?;
    }
    // A restarted node must not wait for the connections of the one before it to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuseport)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

fn refusal(socket: SocketAddr, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("cannot listen on {socket}: {why}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn loopback(reuseport: bool) -> Address {
        Address { reuseport, ..Address::plain("127.0.0.1:0".parse().unwrap()) }
    }

    #[test]
    fn copies_listen_on_one_port_with_and_without_reuseport() {
        for reuseport in [false, true] {
            let listeners = bind(&loopback(reuseport), 3).unwrap();
            let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
            assert_eq!(ports.len(), 3);
            assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        }
    }

    #[test]
    fn a_taken_address_is_refused_by_name_even_with_reuseport() {
        for (first, second) in [(false, false), (true, true), (true, false), (false, true)] {
            let held = bind(&loopback(first), 1).unwrap();
            let socket = held[0].local_addr().unwrap();
            let error = bind(&Address { socket, ..loopback(second) }, 2).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot listen on {socket}: address already in use"));
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn a_foreign_address_is_refused_by_name() {
        let error = bind(&Address::plain("192.0.2.1:0".parse().unwrap()), 1).unwrap_err();
        assert_eq!(error.to_string(), "cannot listen on 192.0.2.1:0: this machine has no such address");
    }

    #[test]
    fn a_listener_accepts_and_does_not_block() {
        let listeners = bind(&loopback(true), 1).unwrap();
        assert_eq!(listeners[0].accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = std::net::TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listeners[0].accept() {
                Ok((_, peer)) => break peer,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert_eq!(accepted, client.local_addr().unwrap());
    }
}

//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

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
    pub fn plain(socket: SocketAddr) -> Self {
        Self {
            socket,
            ssl: false,
            http2: false,
            reuseport: false,
            backlog: 16_384,
            ipv6only: false,
            proxy_protocol: false,
        }
    }
}

/// Binds `copies` non-blocking sockets: with `reuseport` one each, else the same socket duplicated.
pub fn bind(address: &Address, copies: usize) -> io::Result<Vec<TcpListener>> {
    let _ = (address, copies);
    unimplemented!()
}

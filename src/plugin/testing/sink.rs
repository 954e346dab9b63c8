//! A log server for tests: collects the lines that arrive over TCP on a loopback port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Listens until it is dropped; then its port refuses connections and open connections are closed.
pub(crate) struct LogServer {
    pub(crate) address: SocketAddr,
    lines: watch::Receiver<Vec<String>>,
    _accepting: AbortOnDropHandle<()>,
}

impl LogServer {
    /// On a free port.
    pub(crate) async fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// On this port, which a server before may have had.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (collected, lines) = watch::channel(Vec::new());
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::new(collected))));
        Self { address, lines, _accepting: accepting }
    }

    /// Waits until `count` lines arrived and answers all, in the order of their arrival.
    pub(crate) async fn lines(&self, count: usize) -> Vec<String> {
        self.lines.clone().wait_for(|lines| lines.len() >= count).await.unwrap().clone()
    }
}

async fn accept(listener: TcpListener, collected: Arc<watch::Sender<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let collected = collected.clone();
        connections.spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                collected.send_modify(|all| all.push(line));
            }
        });
    }
}

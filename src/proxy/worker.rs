//! A worker: one thread, one runtime, its listening sockets, and the connections that it accepts.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::proxy::client::accept::{self, Handshakes};
use crate::proxy::exchange::context::{Listener, WorkerContext};

/// Maximum number of client connections; more wait in the kernel's queue until one closes.
const CONNECTIONS: usize = 16_384;
/// First and longest pause after running out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// Accepts the connections of one worker.
pub struct Worker {
    context: Rc<WorkerContext>,
    handshakes: Handshakes,
    room: Arc<Semaphore>,
}

impl Worker {
    pub fn new(context: WorkerContext) -> Self {
        Self {
            context: Rc::new(context),
            handshakes: Handshakes::default(),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Accepts until `stopped` says how long running exchanges may still take; then waits for them so long.
    pub async fn run(
        self: Rc<Self>,
        sockets: Vec<(TcpListener, Rc<Listener>)>,
        stopped: impl Future<Output = Duration>,
    ) {
        for (socket, listener) in sockets {
            self.context.tasks.spawn_local(Rc::clone(&self).listen(socket, listener));
        }
        let limit = stopped.await;
        self.context.stop.ask();
        self.context.tasks.close();
        if tokio::time::timeout(limit, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.context.tasks.len(), "exchanges that did not end in time were cut off");
        }
    }

    async fn listen(self: Rc<Self>, socket: TcpListener, listener: Rc<Listener>) {
        let socket = match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a listening socket cannot be used"),
        };
        let mut pause = BACK_OFF;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.context.stop.asked() => break,
                accepted = self.accept(&socket) => accepted,
            };
            match accepted {
                Ok((stream, peer, room)) => {
                    pause = BACK_OFF;
                    self.welcome(stream, peer, &listener, room);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "no connection can be accepted");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_BACK_OFF);
                }
            }
        }
        self.sweep(&socket, &listener).await;
    }

    async fn accept(
        &self,
        socket: &tokio::net::TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = socket.accept().await?;
        Ok((stream, peer, room))
    }

    /// Clients that are already in the queue would be reset when the socket closes: they are served as well.
    async fn sweep(self: &Rc<Self>, socket: &tokio::net::TcpListener, listener: &Rc<Listener>) {
        let mut accepting = pin!(async {
            while let Ok((stream, peer, room)) = self.accept(socket).await {
                self.welcome(stream, peer, listener, room);
            }
        });
        std::future::poll_fn(|cx| {
            let _ = accepting.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn welcome(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        listener: &Rc<Listener>,
        room: OwnedSemaphorePermit,
    ) {
        self.context.traffic.accepted.fetch_add(1, Relaxed);
        self.context.traffic.handled.fetch_add(1, Relaxed);
        let (context, listener) = (Rc::clone(&self.context), Rc::clone(listener));
        let handshakes = self.handshakes.clone();
        self.context.tasks.spawn_local(async move {
            accept::serve(context, listener, handshakes, stream, peer.ip()).await;
            drop(room);
        });
    }
}

/// Whether an accept failed for a reason of the connection's own, so that the next may well succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

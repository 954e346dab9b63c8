//! Clients that speak HTTP/2, by hyper: each stream is an exchange, its response a value that hyper sends.

mod activity;
mod body;
mod source;
mod stream;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::proxy::client::http2::activity::{Activity, CHECK_EVERY};
use crate::proxy::client::http2::stream::serve_stream;
use crate::proxy::client::wire::Wire;
use crate::proxy::exchange::connection::Connection;

/// Concurrent streams of one connection; nginx's limit.
const STREAMS: u32 = 128;
/// Streams that a client reset before they were accepted; with more at a time the connection ends.
const PENDING_RESETS: usize = 20;
/// Streams that were reset here for errors of the client; with more the connection ends.
const ERROR_RESETS: usize = 128;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Time for a client to read that a connection is closing.
const PARTING: Duration = Duration::from_secs(10);

/// Serves streams until the end of the connection. `early`: bytes that were read already.
pub async fn serve<S>(connection: Rc<Connection>, stream: S, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let worker = Rc::clone(&connection.worker);
    let wire = Wire::new(stream, early, worker.options.patience.send);
    let activity = Rc::<Activity>::default();
    let (watched, watched_connection) = (Rc::clone(&activity), Rc::clone(&connection));
    let head_bytes = u32::try_from(worker.options.head.head_bytes).unwrap_or(u32::MAX);
    let service = service_fn(move |request| {
        // Boxed: hyper and the runtime move what they are given several times before they poll it.
        Box::pin(serve_stream(Rc::clone(&connection), Rc::clone(&activity), request))
    });
    let mut serving = pin!(builder(head_bytes).serve_connection(TokioIo::new(wire), service));
    let mut ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        () = reason_to_close(&watched_connection, &watched) => None,
    };
    if ended.is_none() {
        serving.as_mut().graceful_shutdown();
        ended = tokio::select! {
            biased;
            ended = serving => Some(ended),
            () = watched.idle_for(PARTING.min(worker.options.patience.head)) => None,
        };
    }
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "the connection of a client broke");
    }
}

fn builder(head_bytes: u32) -> Builder<Local> {
    let mut builder = Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(head_bytes)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

/// Runs the streams of a connection on its worker's thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Returns when a connection should accept no new streams: the worker stops, the connection has served its share, or its
/// client does nothing.
async fn reason_to_close(connection: &Connection, activity: &Activity) {
    let spent = async {
        while !connection.is_spent() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    };
    tokio::select! {
        () = connection.worker.stop.asked() => {}
        () = spent => {}
        () = activity.idle_for(connection.worker.options.patience.head) => {}
    }
}

//! Clients that speak HTTP/1. One task per connection does everything: it reads a head, runs the exchange, and sends the
//! response.

mod codec;
mod relay;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::proxy::client::http1::codec::{After, Http1Client, Next};
use crate::proxy::client::wire::Wire;
use crate::proxy::exchange::admission::Refusal;
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::{self, Arrived};

/// Serves requests until the end of the connection. `early`: bytes that were read already; `refusal`: why whatever the
/// client asks for is refused.
pub async fn serve<S>(connection: Rc<Connection>, stream: S, early: Bytes, refusal: Option<Refusal>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = pin!(connection.worker.stop.asked());
    // Polled once, so that this task is woken when the worker stops; from then on a flag tells.
    poll_fn(|cx| {
        let _ = stop.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    let wire = Wire::new(stream, early, connection.worker.options.patience.send);
    let mut client = Http1Client::new(Rc::clone(&connection), wire);
    loop {
        let after = match client.next().await {
            Next::Request(Arrived { head, fields }) => {
                let fields = refusal.map_or(fields, Err);
                exchange::serve(&mut client, &connection, Arrived { head, fields }).await;
                client.after()
            }
            Next::End => After::Close,
            Next::Abandon => After::Abandon,
        };
        match after {
            After::Next => client.rest(),
            After::Close => return client.close().await,
            After::Abandon => return,
        }
    }
}

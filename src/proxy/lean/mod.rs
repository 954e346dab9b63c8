//! HTTP/1.1 without hyper: the short way for the requests that make up nearly all traffic.
//!
//! One task per client connection does everything: it reads a head, asks the upstream over a connection that it takes
//! out of the pool, and passes the answer on, with one buffer for each direction. The decisions are those of the general
//! path, by the same functions: admission, route, plugins, headers, tries. What is different is how bytes move.
//!
//! It takes only what is plainly in order. Anything else, from a wrong head to a switch of protocols, leaves the whole
//! connection to the general path before anything has happened: the bytes are given back as if nobody had read them,
//! and the metric `tidegate_proxy_handovers_total` says why. So nothing is refused in two places, and what this path
//! does not do stays out of it. Handing single requests back and forth lost: hyper cannot give a connection back.

pub mod ask;
pub mod buffer;
mod client;
pub mod deadline;
mod exchange;
pub mod fit;
pub mod frame;
pub mod head;
mod relay;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::proxy::connection::Connection;
use crate::proxy::lean::client::{Client, Heard};
use crate::proxy::lean::exchange::After;
use crate::proxy::wire::Wire;

/// Serves requests until the end, or until one comes that is not for this path: then the wire is given back, with that
/// request still in it.
pub async fn speak<S>(connection: &Rc<Connection>, wire: Wire<S>) -> Option<Wire<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = pin!(connection.worker.stop.asked());
    // Polled once to be woken by it; a look at a flag does for all the other times.
    std::future::poll_fn(|cx| {
        let _ = stop.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    let mut client = Client::new(Rc::clone(connection), wire);
    loop {
        let outcome = match client.hear().await {
            Heard::Request(request) => exchange::serve(&mut client, request).await,
            Heard::Other(handover) => Err(handover),
            Heard::End => Ok(After::Close),
            Heard::Overdue => Ok(After::Abandon),
        };
        match outcome {
            Ok(After::Next) => {}
            Ok(After::Close) => {
                client.close().await;
                return None;
            }
            Ok(After::Abandon) => return None,
            Err(handover) => {
                connection.worker.traffic.handovers.note(handover);
                return Some(client.give_back());
            }
        }
    }
}

//! The pipeline whole, over loopback: raw clients, raw backends, nothing in between but the proxy.

mod backend;
mod client;
mod endings;
mod exchanges;
mod framing;
mod gateway;
mod http2;
mod patience;
mod phases;
mod protocols;
mod relaying;

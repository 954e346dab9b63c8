//! The client's side: how a connection begins, and what it speaks.

pub mod accept;
mod date;
mod http1;
mod http2;
mod proxy_header;
mod tunnel;
mod wire;

//! A client of HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// The answers to requests that are asked one after the other on one connection; `None` for a body: it broke off.
pub fn ask(address: SocketAddr, requests: Vec<Request<Bytes>>) -> Vec<(response::Parts, Option<Bytes>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driving = tokio::spawn(connection);
        let mut answers = Vec::new();
        for request in requests {
            let (head, body) = sender.send_request(request.map(Full::new)).await.unwrap().into_parts();
            answers.push((head, body.collect().await.ok().map(|body| body.to_bytes())));
        }
        drop(sender);
        driving.await.unwrap().unwrap();
        answers
    })
}

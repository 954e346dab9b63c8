//! What stands behind the demo's regions: a server that answers every request with what it saw of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// After an accept that failed, which means that something of this process is used up.
const BREATH: Duration = Duration::from_millis(100);

/// A listening socket, and later what answers on it until the runtime ends.
pub struct Upstream {
    pub address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Upstream {
    pub async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self { address: listener.local_addr()?, listener: Some(listener) })
    }

    /// Answers from now on. `regions` are named by the port of their proxy.
    pub fn serve(&mut self, regions: BTreeMap<u16, &'static str>) {
        if let Some(listener) = self.listener.take() {
            tokio::spawn(accept(listener, Arc::new(regions)));
        }
    }
}

async fn accept(listener: TcpListener, regions: Arc<BTreeMap<u16, &'static str>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(BREATH).await;
            continue;
        };
        let regions = regions.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request: Request<Incoming>| {
                let seen = seen(request.method().as_str(), request.uri().path(), request.headers(), &regions);
                std::future::ready(Ok::<_, Infallible>(response(&seen)))
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The region is told by the port that the client asked, which the gateway says in a header.
fn seen(method: &str, path: &str, headers: &HeaderMap, regions: &BTreeMap<u16, &'static str>) -> Value {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let port = text("x-forwarded-port").and_then(|port| port.parse().ok());
    json!({
        "upstream": "hello",
        "request": format!("{method} {path}"),
        "through": port.and_then(|port: u16| regions.get(&port)),
        "consumer": text("x-consumer-username"),
    })
}

fn response(seen: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{seen}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_the_region_and_the_consumer() {
        let regions = BTreeMap::from([(8010, "iad")]);
        let check = |headers: &[(&'static str, &str)], expected: Value| {
            let headers = headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
            assert_eq!(seen("GET", "/a", &headers.collect(), &regions), expected);
        };
        check(
            &[("x-forwarded-port", "8010"), ("x-consumer-username", "ann")],
            json!({"upstream": "hello", "request": "GET /a", "through": "iad", "consumer": "ann"}),
        );
        check(
            &[("x-forwarded-port", "99999")],
            json!({"upstream": "hello", "request": "GET /a", "through": null, "consumer": null}),
        );
    }
}

//! What a failing backend costs, by method and by kind of failure.

use crate::proxy::upstream::resolve::Unresolved;
use crate::proxy::upstream::tests::backend::{Backend, OK};
use crate::proxy::upstream::tests::*;

/// Sends with two more tries allowed to a backend that fails in one way; returns the outcome and the requests it saw.
async fn against(backend: &Backend, method: &str) -> (String, usize) {
    let before = backend.requests();
    let origin = Destination { retries: 2, read_timeout_ms: SHORT_MS, ..origin(backend.address) };
    let outcome = outcome(&upstreams(), &origin, with_body(method, whole("body"))).await;
    (outcome, backend.requests() - before)
}

async fn check(backend: &Backend, repeatable: (&str, usize), once: (&str, usize)) {
    for (method, expected) in [("GET", repeatable), ("DELETE", repeatable), ("POST", once), ("PATCH", once)] {
        let (outcome, requests) = against(backend, method).await;
        assert_eq!((outcome.as_str(), requests), expected, "{method}");
    }
}

#[test]
fn closing_without_an_answer_is_tried_again_where_the_method_allows() {
    run(async {
        let backend = Backend::start(|_, mut peer| async move {
            peer.request().await;
        })
        .await;
        check(&backend, ("bad answer tries=3", 3), ("bad answer tries=1", 1)).await;
    });
}

#[test]
fn never_answering_is_tried_again_where_the_method_allows() {
    run(async {
        let backend = Backend::start(|_, mut peer| async move {
            peer.request().await;
            peer.closed().await;
        })
        .await;
        check(&backend, ("timeout tries=3", 3), ("timeout tries=1", 1)).await;
    });
}

#[test]
fn an_answer_that_began_is_final_whatever_it_is() {
    let broken = ["HTTP/1.1 200 O", "hello\r\n\r\n", "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", "\0\u{1}\u{2}"];
    run(async move {
        for bytes in broken {
            let backend = Backend::start(move |_, mut peer| async move {
                peer.exchange(bytes).await;
            })
            .await;
            check(&backend, ("bad answer tries=1", 1), ("bad answer tries=1", 1)).await;
        }
        let slow = Backend::start(|_, mut peer| async move {
            peer.exchange("HTTP/1.1 200 OK\r\n").await;
            peer.closed().await;
        })
        .await;
        check(&slow, ("timeout tries=1", 1), ("timeout tries=1", 1)).await;
        let failing = Backend::answering("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno").await;
        check(&failing, ("503 no tries=1", 1), ("503 no tries=1", 1)).await;
    });
}

#[test]
fn a_refused_connection_is_tried_again_for_every_method() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Destination { retries: 2, ..origin(listener.local_addr().unwrap()) };
        drop(listener);
        for method in ["GET", "POST"] {
            assert_eq!(outcome(&upstreams(), &origin, request(method)).await, "bad answer tries=3");
        }
    });
}

#[test]
fn a_connect_timeout_is_tried_again_for_every_method() {
    run(async {
        let full = full_listener();
        let origin = Destination { retries: 1, connect_timeout_ms: SHORT_MS, ..origin(full.1) };
        for method in ["GET", "POST"] {
            assert_eq!(outcome(&upstreams(), &origin, request(method)).await, "timeout tries=2");
        }
    });
}

/// A listener that nobody accepts from, with its queue filled, so that further handshakes are not answered.
fn full_listener() -> (socket2::Socket, SocketAddr, Vec<socket2::Socket>) {
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fillers: Vec<_> = std::iter::repeat_with(socket).take(4).collect();
    for filler in &fillers {
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address);
    }
    (listener, address.as_socket().unwrap(), fillers)
}

#[test]
fn each_try_takes_the_next_address_and_each_exchange_starts_one_further() {
    run(async {
        let backend =
            Backend::start_at("127.0.0.2:0", None, |_, mut peer| async move { while peer.exchange(OK).await {} }).await;
        let upstreams = knowing("two.test", &[[127, 0, 0, 1], [127, 0, 0, 2]]);
        let destination = Destination { retries: 1, ..named("two.test", backend.address.port()) };
        let origin = Origin::new(&destination).unwrap();
        let mut tries = Vec::new();
        for _ in 0..4 {
            tries.push(shown(ask_origin(&upstreams, &origin, request("POST")).await).await);
        }
        assert_eq!(tries, ["200 ok tries=2", "200 ok tries=1", "200 ok tries=2", "200 ok tries=1"]);
        assert!(backend.last().contains(&format!("host: two.test:{}\r\n", backend.address.port())));
    });
}

#[test]
fn a_streamed_body_is_sent_again_only_while_nothing_of_it_was_taken() {
    run(async {
        let backend = Backend::start_at("127.0.0.2:0", None, |_, mut peer| async move {
            peer.exchange(OK).await;
        })
        .await;
        let upstreams = knowing("two.test", &[[127, 0, 0, 1], [127, 0, 0, 2]]);
        let two = Destination { retries: 5, ..named("two.test", backend.address.port()) };
        let body = || stream(&["one", "two"], End::Clean);
        assert_eq!(outcome(&upstreams, &two, with_body("PUT", body())).await, "200 ok tries=2");

        let closing = Backend::start(|_, mut peer| async move {
            peer.request().await;
        })
        .await;
        let closing = Destination { retries: 5, ..origin(closing.address) };
        assert_eq!(outcome(&upstreams, &closing, with_body("PUT", body())).await, "bad answer tries=1");
    });
}

#[test]
fn names_of_this_machine_resolve() {
    run(async {
        let backend = Backend::answering(OK).await;
        let local = named("localhost", backend.address.port());
        assert_eq!(outcome(&upstreams(), &local, request("GET")).await, "200 ok tries=1");
    });
}

#[test]
fn a_name_that_is_gone_and_a_name_service_that_fails_are_told_apart() {
    run(async {
        let names = SharedNames::default();
        let upstreams = Upstreams::new(&options(), names.clone(), Rc::default()).unwrap();
        upstreams.names.learn("gone.test", &Err(Unresolved::NotFound));
        upstreams.names.learn("failing.test", &Err(Unresolved::Failed("servfail".into())));
        assert_eq!(outcome(&upstreams, &named("gone.test", 80), request("GET")).await, "NameNotFound");
        assert_eq!(
            outcome(&upstreams, &named("Failing.test", 80), request("GET")).await,
            "Resolve { host: \"Failing.test\", why: \"servfail\" }"
        );
    });
}

#[test]
fn a_backend_that_takes_no_bytes_meets_the_write_timeout() {
    run(async {
        let backend = Backend::start(|_, peer| async move {
            let _held = peer;
            std::future::pending::<()>().await;
        })
        .await;
        let origin = Destination { write_timeout_ms: SHORT_MS, ..origin(backend.address) };
        let big = Body::Whole(vec![b'x'; 32 << 20]);
        assert_eq!(outcome(&upstreams(), &origin, with_body("PUT", big)).await, "timeout tries=1");
    });
}

#[test]
fn each_try_at_a_group_has_the_host_and_the_server_name_of_its_target() {
    run(async {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let backend = Backend::answering(OK).await;
        let targets = [("127.0.0.1", dead.port()), ("localhost", backend.address.port())];
        let group = targets.map(|(host, port)| (host.into(), port));
        let destination = Destination { backend: Place::Group(group.into()), retries: 1, ..named("group", 80) };
        let upstreams = upstreams();
        assert_eq!(outcome(&upstreams, &destination, request("POST")).await, "200 ok tries=2");
        assert!(backend.last().contains(&format!("host: localhost:{}\r\n", backend.address.port())));
        let kept = Sent { host: Some(HeaderValue::from_static("client.test")), ..request("GET") };
        assert_eq!(outcome(&upstreams, &destination, kept).await, "200 ok tries=2");
        assert!(backend.last().contains("host: client.test\r\n"));
        let none = Destination { backend: Place::Group([].into()), ..named("group", 80) };
        assert_eq!(outcome(&upstreams, &none, request("GET")).await, "NameNotFound");
    });
}

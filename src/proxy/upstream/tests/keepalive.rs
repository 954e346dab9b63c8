//! Which connections are used again, and which are not.

use crate::proxy::upstream::tests::backend::{Backend, OK};
use crate::proxy::upstream::tests::*;

const DONE: &str = "200 ok tries=1";

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Sends `count` requests one after another; returns how many connections that took.
async fn connections(options: UpstreamOptions, answer: &'static str, count: usize) -> usize {
    let backend = Backend::answering(answer).await;
    let upstreams = with_options(&options);
    for _ in 0..count {
        let outcome = outcome(&upstreams, &origin(backend.address), request("GET")).await;
        assert!(outcome.starts_with("200 "), "{outcome}");
    }
    backend.accepted.get()
}

#[test]
fn connections_are_used_again_within_their_bounds() {
    run(async {
        assert_eq!(connections(options(), OK, 5).await, 1);
        assert_eq!(connections(UpstreamOptions { keepalive_pool_size: 0, ..options() }, OK, 5).await, 5);
        assert_eq!(connections(UpstreamOptions { keepalive_max_requests: 2, ..options() }, OK, 5).await, 3);
        assert_eq!(connections(UpstreamOptions { keepalive_max_requests: 0, ..options() }, OK, 5).await, 1);
        let at_once = Duration::from_nanos(1);
        assert_eq!(connections(UpstreamOptions { keepalive_idle_timeout: at_once, ..options() }, OK, 5).await, 5);
        assert_eq!(
            connections(UpstreamOptions { keepalive_idle_timeout: Duration::ZERO, ..options() }, OK, 5).await,
            1
        );
    });
}

#[test]
fn every_way_to_end_a_body_leaves_the_connection_usable_or_closed() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let trailers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\n\r\n";
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let close = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    run(async move {
        for (answer, expected) in [(chunked, 1), (trailers, 1), (empty, 1), (close, 3)] {
            assert_eq!(connections(options(), answer, 3).await, expected, "{answer}");
        }
    });
}

#[test]
fn a_head_request_and_a_bodiless_status_leave_the_connection_usable() {
    run(async {
        let head = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        let unchanged = Backend::answering("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n").await;
        let upstreams = upstreams();
        for _ in 0..3 {
            assert_eq!(outcome(&upstreams, &origin(head.address), request("HEAD")).await, "200  tries=1");
            assert_eq!(outcome(&upstreams, &origin(unchanged.address), request("GET")).await, "304  tries=1");
        }
        assert_eq!((head.accepted.get(), unchanged.accepted.get()), (1, 1));
    });
}

#[test]
fn parallel_requests_have_a_connection_each_and_the_pool_keeps_its_size() {
    run(async {
        let backend = Backend::answering(OK).await;
        let upstreams = with_options(&UpstreamOptions { keepalive_pool_size: 3, ..options() });
        let origin = origin(backend.address);
        let all = (0..10).map(|_| outcome(&upstreams, &origin, request("GET")));
        assert!(futures_util::future::join_all(all).await.iter().all(|outcome| outcome == DONE));
        assert_eq!(backend.accepted.get(), 10);
        assert_eq!(upstreams.pool.len(), 3);
    });
}

/// Answers one request on each connection, and closes it when `leave` is told so.
async fn leaving(leave: &Rc<tokio::sync::Notify>) -> Backend {
    let leave = leave.clone();
    Backend::start(move |_, mut peer| {
        let leave = leave.clone();
        async move {
            peer.exchange(OK).await;
            leave.notified().await;
        }
    })
    .await
}

#[test]
fn an_idle_connection_that_is_too_old_is_dropped_without_traffic() {
    run(async {
        let backend = Backend::answering(OK).await;
        let upstreams =
            with_options(&UpstreamOptions { keepalive_idle_timeout: Duration::from_millis(1), ..options() });
        assert_eq!(outcome(&upstreams, &origin(backend.address), request("GET")).await, DONE);
        assert_eq!(upstreams.pool.len(), 1);
        until(|| upstreams.pool.len() == 0).await;
    });
}

#[test]
fn an_idle_connection_that_the_upstream_closes_is_dropped_without_traffic() {
    run(async {
        let leave = Rc::default();
        let backend = leaving(&leave).await;
        let upstreams = upstreams();
        assert_eq!(outcome(&upstreams, &origin(backend.address), request("GET")).await, DONE);
        assert_eq!(upstreams.pool.len(), 1);
        leave.notify_waiters();
        until(|| upstreams.pool.len() == 0).await;
    });
}

#[test]
fn a_connection_closed_at_rest_is_noticed_before_anything_is_sent_even_for_post() {
    run(async {
        let leave = Rc::default();
        let backend = leaving(&leave).await;
        let upstreams = upstreams();
        let origin = origin(backend.address);
        assert_eq!(outcome(&upstreams, &origin, with_body("POST", whole("x"))).await, DONE);
        // A second connection that is seen to be closed was closed after the first.
        let mut later = tokio::net::TcpStream::connect(backend.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut later, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut later, &mut [0; OK.len()]).await.unwrap();
        leave.notify_waiters();
        tokio::io::AsyncReadExt::read_to_end(&mut later, &mut Vec::new()).await.unwrap();
        assert_eq!(upstreams.pool.len(), 1);
        assert_eq!(outcome(&upstreams, &origin, with_body("POST", whole("y"))).await, DONE);
        assert!(backend.last().ends_with("\r\n\r\ny"));
    });
}

#[test]
fn a_kept_connection_closed_under_the_request_costs_no_try_but_post_is_not_repeated() {
    run(async {
        for (method, expected, requests) in [("GET", DONE, 3), ("PUT", DONE, 3), ("POST", "bad answer tries=1", 2)] {
            let backend = Backend::start(|number, mut peer| async move {
                peer.exchange(OK).await;
                match number {
                    0 => {
                        peer.request().await;
                    }
                    _ => peer.closed().await,
                }
            })
            .await;
            let upstreams = upstreams();
            let origin = origin(backend.address);
            assert_eq!(outcome(&upstreams, &origin, request("GET")).await, DONE);
            assert_eq!(outcome(&upstreams, &origin, with_body(method, whole("x"))).await, expected, "{method}");
            assert_eq!(backend.requests(), requests, "{method}");
        }
    });
}

#[test]
fn a_body_dropped_before_its_end_closes_the_connection() {
    run(async {
        let gone = Rc::new(std::cell::Cell::new(false));
        let told = gone.clone();
        let backend = Backend::start(move |_, mut peer| {
            let told = told.clone();
            async move {
                peer.exchange("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nstart").await;
                peer.closed().await;
                told.set(true);
            }
        })
        .await;
        let upstreams = upstreams();
        let mut reply = ask(&upstreams, &origin(backend.address), request("GET")).await.unwrap_or_else(|_| panic!());
        assert_eq!(reply.next().await, Ok(Some("start".to_owned())));
        drop(reply);
        until(|| gone.get()).await;
        assert_eq!(upstreams.pool.len(), 0);
    });
}

#[test]
fn bytes_after_an_answer_never_become_the_next_answer() {
    let split = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    run(async move {
        let backend = Backend::answering(split).await;
        let upstreams = upstreams();
        for _ in 0..3 {
            assert_eq!(outcome(&upstreams, &origin(backend.address), request("GET")).await, DONE);
            assert_eq!(upstreams.pool.len(), 0);
        }
        assert_eq!(backend.accepted.get(), 3);
    });
}

#[test]
fn an_exchange_over_a_kept_connection_runs_its_task_once_to_send_and_once_to_read() {
    run(async {
        let backend = Backend::answering(OK).await;
        let (upstreams, origin) = (Rc::new(upstreams()), origin(backend.address));
        assert_eq!(outcome(&upstreams, &origin, request("GET")).await, DONE);
        let counted = tokio::task::spawn_local(async move {
            let mut exchange = Box::pin(outcome(&upstreams, &origin, request("GET")));
            let mut polls = 0;
            let outcome = std::future::poll_fn(|cx| {
                polls += 1;
                exchange.as_mut().poll(cx)
            });
            (outcome.await, polls)
        });
        assert_eq!(counted.await.unwrap(), (DONE.to_owned(), 2));
    });
}

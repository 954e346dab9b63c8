//! Heads and bodies in both directions.

use crate::proxy::upstream::tests::backend::{Backend, OK};
use crate::proxy::upstream::tests::*;

async fn sent(outgoing: Sent) -> String {
    let backend = Backend::answering(OK).await;
    assert_eq!(outcome(&upstreams(), &origin(backend.address), outgoing).await, "200 ok tries=1");
    backend.last()
}

async fn received(answer: &'static str) -> String {
    let backend = Backend::start(move |_, mut peer| async move {
        peer.exchange(answer).await;
    })
    .await;
    outcome(&upstreams(), &origin(backend.address), request("GET")).await
}

#[test]
fn a_head_says_host_and_the_length_whatever_the_method() {
    run(async {
        let plain = sent(request("GET")).await;
        assert!(plain.starts_with("GET /path?query HTTP/1.1\r\n"), "{plain}");
        assert!(plain.contains("host: 127.0.0.1:"), "{plain}");
        assert!(!plain.contains("content-length") && !plain.contains("transfer-encoding"), "{plain}");

        let kept = Sent { host: Some(HeaderValue::from_static("client.test")), ..request("GET") };
        assert!(sent(kept).await.contains("host: client.test\r\n"));

        for method in ["GET", "POST", "DELETE"] {
            let body = sent(with_body(method, whole("four"))).await;
            assert!(body.contains("content-length: 4\r\n") && body.ends_with("\r\n\r\nfour"), "{body}");
            let none = sent(with_body(method, whole(""))).await;
            assert!(none.contains("content-length: 0\r\n"), "{none}");
        }
    });
}

#[test]
fn streamed_bodies_keep_their_length_or_go_in_chunks_whatever_the_method() {
    run(async {
        for method in ["GET", "POST"] {
            let chunked = sent(with_body(method, stream(&["one", "two"], End::Clean))).await;
            assert!(chunked.contains("transfer-encoding: chunked\r\n"), "{chunked}");
            assert!(chunked.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{chunked}");
            let body = Body::Stream(Frames::new(&["one", "two"], End::Clean), Some(6));
            let stated = sent(with_body(method, body)).await;
            assert!(stated.contains("content-length: 6\r\n") && stated.ends_with("\r\n\r\nonetwo"), "{stated}");
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let frames = Frames::new(&["four"], End::Clean).with_trailer("x-sum", "42");
        let request_sent = sent(with_body("PUT", Body::Stream(frames, None))).await;
        assert!(request_sent.ends_with("4\r\nfour\r\n0\r\nx-sum: 42\r\n\r\n"), "{request_sent}");

        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n\
                      2\r\nok\r\n0\r\nx-end: 7\r\n\r\n";
        let backend = Backend::answering(answer).await;
        let mut reply = ask(&upstreams(), &origin(backend.address), request("GET")).await.unwrap_or_else(|_| panic!());
        assert_eq!(reply.next().await, Ok(Some("ok".to_owned())));
        assert_eq!(reply.next().await, Ok(None));
        assert_eq!(reply.response.download.take_trailers().unwrap().get("x-end").unwrap(), "7");
    });
}

#[test]
fn answers_of_every_framing_are_read() {
    run(async {
        let table = [
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", "200 until the end tries=1"),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "200 until the end tries=1"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok tries=1"),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", "204  tries=1"),
            ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "bad answer tries=1"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "bad answer tries=1"),
        ];
        for (answer, expected) in table {
            assert_eq!(received(answer).await, expected, "{answer}");
        }
    });
}

#[test]
fn a_body_that_ends_early_or_never_is_a_fault() {
    run(async {
        let cut = received("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        assert!(cut.starts_with("200 Broken("), "{cut}");
        let cut = received("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
        assert!(cut.starts_with("200 Broken("), "{cut}");
        let backend = Backend::start(|_, mut peer| async move {
            peer.exchange("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            peer.closed().await;
        })
        .await;
        let origin = Destination { read_timeout_ms: SHORT_MS, ..origin(backend.address) };
        assert_eq!(outcome(&upstreams(), &origin, request("GET")).await, "200 Timeout");
    });
}

#[test]
fn the_read_timeout_is_between_two_reads_and_not_for_the_whole() {
    run(async {
        let backend = Backend::start(|_, mut peer| async move {
            peer.exchange("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").await;
            for _ in 0..8 {
                tokio::time::sleep(SHORT).await;
                peer.write("x").await;
            }
        })
        .await;
        let origin = Destination { read_timeout_ms: SHORT_MS * 4, ..origin(backend.address) };
        assert_eq!(outcome(&upstreams(), &origin, request("GET")).await, "200 xxxxxxxx tries=1");
    });
}

#[test]
fn time_that_the_client_takes_is_not_the_upstreams() {
    run(async {
        let backend = Backend::start(|_, mut peer| async move {
            peer.exchange("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour").await;
            tokio::time::sleep(SHORT * 5).await;
            peer.write("more").await;
        })
        .await;
        let origin = Destination { read_timeout_ms: SHORT_MS * 4, ..origin(backend.address) };
        let mut reply = ask(&upstreams(), &origin, request("GET")).await.unwrap_or_else(|_| panic!());
        assert_eq!(reply.next().await, Ok(Some("four".to_owned())));
        tokio::time::sleep(SHORT * 3).await;
        assert_eq!(reply.next().await, Ok(Some("more".to_owned())));
    });
}

#[test]
fn a_fault_of_the_client_is_told_as_such_and_never_tried_again() {
    run(async {
        let backend = Backend::start(|_, mut peer| async move { peer.closed().await }).await;
        let origin = Destination { retries: 5, ..origin(backend.address) };
        let body = stream(&["one"], End::Fault);
        assert_eq!(outcome(&upstreams(), &origin, with_body("PUT", body)).await, "Client(TooLarge)");
        assert!(backend.accepted.get() <= 1);
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_is_passed_on_and_its_connection_not_kept() {
    run(async {
        let early = "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno";
        let backend = Backend::start(move |_, mut peer| async move {
            peer.write(early).await;
            peer.closed().await;
        })
        .await;
        let upstreams = upstreams();
        let body = stream(&["one"], End::Never);
        let outcome = outcome(&upstreams, &origin(backend.address), with_body("PUT", body)).await;
        assert_eq!(outcome, "413 no tries=1");
        assert_eq!(upstreams.pool.len(), 0);
    });
}

#[test]
fn the_client_may_take_longer_over_its_body_than_the_read_timeout() {
    run(async {
        let backend = Backend::answering(OK).await;
        let origin = Destination { read_timeout_ms: SHORT_MS, ..origin(backend.address) };
        let slow = Frames::new(&["part", "part"], End::Clean).delayed(SHORT * 2);
        let body = Body::Stream(slow, None);
        let outcome = outcome(&upstreams(), &origin, with_body("PUT", body)).await;
        assert_eq!(outcome, "200 ok tries=1");
    });
}

#[test]
fn heads_are_bounded_in_bytes_and_in_headers() {
    fn head(headers: usize, bytes: usize) -> &'static str {
        let lines: String = (0..headers).map(|number| format!("x-{number}: {}\r\n", "v".repeat(bytes))).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nok").leak()
    }
    run(async {
        assert_eq!(received(head(120, 10)).await, "200 ok tries=1");
        assert_eq!(received(head(1, 50_000)).await, "200 ok tries=1");
        assert_eq!(received(head(900, 10)).await, "200 ok tries=1");
        assert_eq!(received(head(1_000, 10)).await, "bad answer tries=1");
        assert_eq!(received(head(1, 100_000)).await, "bad answer tries=1");
    });
}

#[test]
fn a_switch_of_protocols_becomes_a_tunnel() {
    run(async {
        let backend = Backend::start(|_, mut peer| async move {
            peer.exchange("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello").await;
            let mut word = [0; 4];
            tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut word).await.unwrap();
            peer.write(&format!("got {}", text(&word))).await;
        })
        .await;
        let outgoing = Sent { upgrade: true, ..request("GET") };
        let reply = ask(&upstreams(), &origin(backend.address), outgoing).await.unwrap_or_else(|_| panic!());
        assert_eq!(reply.response.head.status, 101);
        let (mut tunnel, early) = reply.response.download.into_tunnel().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tunnel, b"ping").await.unwrap();
        let mut all = early.filled().to_vec();
        tokio::io::AsyncReadExt::read_to_end(&mut tunnel, &mut all).await.unwrap();
        assert_eq!(text(&all), "hellogot ping");
    });
}

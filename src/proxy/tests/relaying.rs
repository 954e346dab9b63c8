//! Answers in all the ways that HTTP/1 has to say where one ends, and what must not be taken for a part of one.

use bytes::Bytes;
use http::Request;
use serde_json::json;

use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::Gateway;
use crate::proxy::tests::http2;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Asks twice on one connection, of HTTP/1 and of HTTP/2: status and body each time, always the same.
fn check(said: impl Into<Vec<u8>>, status: u16, body: &[u8]) {
    let said = said.into();
    let shown = String::from_utf8_lossy(&said[..said.len().min(100)]).into_owned();
    let backend = Backend::saying(said);
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.listen[0].http2 = true);
    for (head, came) in http2::ask(gateway.address(), vec![get(), get()]) {
        assert!(head.status == status && came.as_deref() == Some(body), "HTTP/2: {shown:?} {head:?}");
        assert!(head.headers.get_all("content-length").iter().count() < 2, "{head:?}");
    }
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(GET.as_bytes());
        let answer = client.answer("GET");
        assert_eq!((answer.status, answer.body.len()), (status, body.len()), "{shown:?}");
        assert!(answer.body == body, "{shown:?}");
    }
    drop(client);
    assert!(gateway.is_deserted());
}

fn get() -> Request<Bytes> {
    Request::get("http://a/").body(Bytes::new()).unwrap()
}

#[test]
fn an_answer_of_any_framing_arrives_and_leaves_the_connection_usable() {
    let ok = "HTTP/1.1 200 OK\r\n";
    check(format!("{ok}Content-Length: 0\r\n\r\n"), 200, b"");
    check(format!("{ok}Content-Length: 3\r\n\r\nabc"), 200, b"abc");
    check(format!("{ok}Connection: close\r\n\r\nuntil the end"), 200, b"until the end");
    check(format!("{ok}Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nT: 1\r\n\r\n"), 200, b"abc");
    check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\nX: connection: close\r\n\r\nabc", 200, b"abc");
    check(
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n{ok}Content-Length: 1\r\n\r\na"),
        200,
        b"a",
    );
    check("HTTP/1.1 299\r\nContent-Length: 1\r\n\r\na", 299, b"a");
    check(format!("{ok}Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), 200, b"a");
    check("HTTP/1.1 204 No Content\r\n\r\n", 204, b"");
}

#[test]
fn a_stream_of_http2_goes_up_over_a_connection_that_others_use_too() {
    let backend = Backend::start(|seen, before| {
        let said = format!("{before} {}", seen.body.len());
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).into_bytes()
    });
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.listen[0].http2 = true);
    let mut client = gateway.connect();
    client.send(GET.as_bytes());
    assert_eq!(client.answer("GET").text(), "0 0");
    let post = |length| Request::post("http://two.test/p?q").body(Bytes::from(vec![b'x'; length])).unwrap();
    let mut requests: Vec<_> = [1, 9_000, 65_536, 200_000].into_iter().map(post).collect();
    requests.push(get());
    let answers = http2::ask(gateway.address(), requests);
    let texts: Vec<_> = answers.iter().map(|(_, body)| str::from_utf8(body.as_ref().unwrap()).unwrap()).collect();
    assert_eq!(texts, ["1 1", "2 9000", "3 65536", "4 200000", "5 0"]);
    let lines: Vec<_> = backend.seen().iter().map(|seen| seen.line().to_owned()).collect();
    assert_eq!(
        lines[1..],
        ["POST /p?q HTTP/1.1"; 4]
            .map(str::to_owned)
            .into_iter()
            .chain(["GET / HTTP/1.1".to_owned()])
            .collect::<Vec<_>>()[..]
    );
    assert_eq!(backend.last().header("x-forwarded-proto"), Some("http"));
}

#[test]
fn an_upstream_that_stops_within_its_answer_is_given_up_when_its_time_is_over() {
    for said in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "\r\nabc"] {
        let backend = Backend::saying(format!("HTTP/1.1 200 OK\r\n{said}"));
        let gateway = Gateway::with(backend.address, json!({"read_timeout": 100}), json!({}), |options| {
            options.listen[0].http2 = true;
        });
        let answers = http2::ask(gateway.address(), vec![get()]);
        assert!(answers[0].0.status == 200 && answers[0].1.is_none(), "{said:?}");
        let mut client = gateway.connect();
        client.send(GET.as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(!client.rest().ends_with(b"0\r\n\r\n"), "{said:?}");
        assert!(gateway.is_deserted());
    }
}

#[test]
fn an_answer_that_breaks_off_is_no_whole_one_for_http2_either() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: connection: close\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: connection: close\r\n\r\n3\r\nabcx",
    ] {
        let backend = Backend::saying(said);
        let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.listen[0].http2 = true);
        let answers = http2::ask(gateway.address(), vec![get()]);
        assert!(answers[0].0.status == 200 && answers[0].1.is_none(), "{said:?}");
        assert!(gateway.is_deserted());
    }
    let head = Request::head("http://a/").body(Bytes::new()).unwrap();
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.listen[0].http2 = true);
    let answers = http2::ask(gateway.address(), vec![head.clone(), head]);
    assert!(answers.iter().all(|(head, body)| head.headers["content-length"] == "9" && body.as_deref() == Some(b"")));
}

#[test]
fn long_answers_arrive_whole() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|place| (place % 251) as u8).collect();
    let with = |head: &str, body: &[u8]| [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat();
    check(with("Content-Length: 3000000", &body), 200, &body);
    check(with("Connection: close", &body), 200, &body);
    let mut chunks = Vec::new();
    for piece in body.chunks(70_001) {
        chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunks.extend_from_slice(piece);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    check(with("Transfer-Encoding: chunked", &chunks), 200, &body);
}

#[test]
fn bytes_behind_an_answer_never_become_the_next_one() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    check(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc{forged}"), 200, b"abc");
    check(format!("HTTP/1.1 304 Not Modified\r\n\r\n{forged}"), 304, b"");
}

#[test]
fn two_lengths_and_no_lengths_are_no_answer() {
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    let gateway = Gateway::before(backend.address);
    assert_eq!(gateway.ask(GET).status, 502);
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab");
    let gateway = Gateway::before(backend.address);
    assert_eq!(gateway.ask(GET).status, 502);
}

#[test]
fn a_body_that_is_held_goes_up_as_it_came_whatever_its_size() {
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |_| {});
    let mut client = gateway.connect();
    for size in [1, 2_000, 9_000, 65_535, 65_536, 65_537] {
        let body = vec![b'0' + (size % 10) as u8; size];
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").as_bytes());
        client.send(&body);
        assert_eq!(client.answer("POST").text(), "ok");
        let seen = backend.last();
        assert!(seen.body == body && seen.header("content-length") == Some(&size.to_string()), "{size}");
    }
    // The next request right behind a body.
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPUT /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nd");
    assert_eq!((client.answer("POST").text(), client.answer("PUT").text()), ("ok", "ok"));
    assert_eq!((backend.last().line(), &backend.last().body[..]), ("PUT /2 HTTP/1.1", &b"d"[..]));
}

#[test]
fn a_refused_body_that_has_come_is_passed_over() {
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::with(backend.address, json!({}), json!({"paths": ["/a"]}), |_| {});
    let mut client = gateway.connect();
    client.send(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nGET /a HTTP/1.1\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("POST").status, 404);
    assert_eq!(client.answer("GET").text(), "ok");
    assert_eq!(backend.seen().len(), 1);
}

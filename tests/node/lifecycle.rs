//! From start to end: what is open when, and what a signal does.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, read_head};
use crate::postgres::Server;
use crate::process::{Node, free_address, settings_of};

/// Bound of every wait.
const PATIENCE: Duration = Duration::from_secs(20);
const NO_SETTINGS: [(&str, &str); 0] = [];

/// A backend that tells of each request and answers it when told to.
struct Held {
    backend: Backend,
    arrived: mpsc::Receiver<()>,
    answer: mpsc::Sender<()>,
}

impl Held {
    fn start() -> Self {
        let ((tell, arrived), (answer, told)) = (mpsc::channel(), mpsc::channel::<()>());
        let (tell, told) = (Mutex::new(tell), Mutex::new(told));
        let backend = Backend::with(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while read_head(&mut reader).is_some() {
                let _ = tell.lock().unwrap().send(());
                if told.lock().unwrap().recv().is_err() {
                    return;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        Self { backend, arrived, answer }
    }
}

/// A node that serves `/r` from a held backend, with one request on its way.
fn with_a_running_request() -> (Node, Held, TcpStream) {
    let (node, held) = (Node::started(NO_SETTINGS), Held::start());
    add_route(&node, &held.backend.url());
    let mut running = connect(node.proxy).unwrap();
    running.write_all(b"GET /r HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    held.arrived.recv_timeout(PATIENCE).unwrap();
    (node, held, running)
}

fn add_route(node: &Node, url: &str) {
    node.admin_ok("POST", "/services", &json!({"name": "s", "url": url}));
    node.admin_ok("POST", "/services/s/routes", &json!({"name": "r", "paths": ["/r"]}));
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn status(node: &Node, address: SocketAddr, path: &str) -> Option<u16> {
    node.get(address, path).ok().map(|answer| answer.status)
}

fn wait_closed(node: &mut Node) {
    node.wait_for("the proxy still accepts", PATIENCE, |node| connect(node.proxy).is_err());
}

#[test]
fn a_prefix_serves_one_node_and_health_says_so() {
    let mut node = Node::new(NO_SETTINGS);
    let run = |node: &Node, words: &str| {
        let output = node.command(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&node, "health").0, Some(1));
    node.start();
    node.wait_ready(PATIENCE);
    assert_eq!(run(&node, "health").0, Some(0));
    let (code, again) = run(&node, "start");
    assert!(code == Some(1) && again.starts_with("Error: tidegate is already running in "), "{again}");
    let (code, export) = run(&node, "config db_export never.yml");
    assert!(code == Some(1) && export.contains("in use"), "{export}");
    assert_eq!(run(&node, "stop").0, Some(0));
    assert_eq!(node.ended(PATIENCE), Some(0));
    assert_eq!(run(&node, "health").0, Some(1));
}

#[test]
fn a_stop_finishes_what_runs_and_takes_no_more() {
    let (mut node, held, mut running) = with_a_running_request();
    node.signal("TERM");
    wait_closed(&mut node);
    held.answer.send(()).unwrap();
    let mut answer = String::new();
    running.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
    assert_eq!(node.ended(PATIENCE), Some(0));
}

#[test]
fn a_second_signal_hurries() {
    let (mut node, _held, _running) = with_a_running_request();
    node.signal("TERM");
    wait_closed(&mut node);
    node.signal("INT");
    assert_eq!(node.ended(PATIENCE), Some(0), "though a request still ran");
}

#[test]
fn while_it_drains_it_serves_and_says_that_it_is_not_ready() {
    let mut node = Node::started([("drain_delay", "600")]);
    node.signal("QUIT");
    node.wait_for("the node does not say that it drains", PATIENCE, |node| {
        status(node, node.status, "/status/ready") == Some(503)
    });
    assert_eq!(status(&node, node.proxy, "/nothing"), Some(404));
    assert_eq!(node.stop(PATIENCE), Some(0));
}

#[test]
fn log_files_are_opened_again_on_a_hangup() {
    let logs = [("proxy_error_log", "logs/error.log"), ("proxy_access_log", "logs/access.log")];
    let mut node = Node::started(logs);
    let folder = node.prefix().join("logs");
    for name in ["access.log", "error.log"] {
        std::fs::rename(folder.join(name), folder.join(format!("{name}.1"))).unwrap();
    }
    node.signal("HUP");
    node.wait_for("the logs are not there again", PATIENCE, |node| {
        let _ = node.get(node.proxy, "/after");
        let text = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        text("error.log").contains("opened again") && text("access.log").contains("GET /after")
    });
}

#[test]
fn a_declarative_configuration_is_served_and_kept() {
    let mut node = Node::new([("database", "off")]);
    let text = "_format_version: '3.0'\nservices:\n- {name: s, url: 'http://127.0.0.1:1', routes: [{paths: [/r]}]}\n";
    let mut first = node.command("start");
    let mut first = first.env("TIDEGATE_DECLARATIVE_CONFIG_STRING", text).stderr(Stdio::null()).spawn().unwrap();
    node.wait_ready(PATIENCE);
    assert_eq!(status(&node, node.proxy, "/r"), Some(502));
    assert_eq!(node.admin("POST", "/consumers", &json!({"username": "a"})).unwrap().status, 405);
    first.kill().unwrap();
    first.wait().unwrap();

    node.start();
    node.wait_ready(PATIENCE);
    assert_eq!(status(&node, node.proxy, "/r"), Some(502), "what was taken last is served again");
}

#[test]
fn without_any_configuration_the_proxy_stays_closed() {
    let nobody = free_address().port().to_string();
    let mut node = Node::new([("database", "postgres"), ("pg_port", &nobody)]);
    node.start();
    node.wait_for("the log does not say why", PATIENCE, |node| node.log().contains("the database is away"));
    assert_eq!(status(&node, node.status, "/status/ready"), Some(503));
    assert!(connect(node.proxy).is_err());
    let begun = Instant::now();
    assert_eq!(node.admin("POST", "/consumers", &json!({"username": "a"})).unwrap().status, 503);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(node.stop(PATIENCE), Some(0));
}

#[test]
fn what_one_node_writes_another_serves() {
    let settings = settings_of(&Server::shared().create_database());
    let (one, mut two) = (Node::started(settings.clone()), Node::started(settings));
    add_route(&one, &Backend::answering().url());
    two.wait_for("the route is not live", PATIENCE, |two| status(two, two.proxy, "/r") == Some(200));
}

#[test]
fn secrets_stay_out_of_what_is_shown() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hush-hush\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let settings = [("admin_token", "a-token-of-mine"), ("pg_password_file", path), ("log_level", "debug")];
    let mut node = Node::started(settings);
    assert_eq!(node.admin("GET", "/", &Value::Null).unwrap().status, 401);
    let mut stream = connect(node.admin).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nKong-Admin-Token: a-token-of-mine\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"pg_password\":\"******\"") && answer.contains("\"admin_token\":\"******\""), "{answer}");
    node.wait_for("nothing is logged", PATIENCE, |node| node.log().contains("serves"));
    let log = node.log();
    assert!(!log.contains("hush-hush") && !log.contains("a-token-of-mine"), "{log}");
}

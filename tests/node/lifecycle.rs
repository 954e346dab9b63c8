//! From start to end: what is open when, what a signal does, and what a node does without its database.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::gateway::{Gateway, Plan, ask, connect, free_ports, is_open, receive, send};
use crate::postgres::Server;

/// An upstream that answers each request once it is told to.
struct Upstream {
    port: u16,
    arrived: mpsc::Receiver<()>,
    answer: mpsc::Sender<()>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ((tell, arrived), (answer, told)) = (mpsc::channel(), mpsc::channel::<()>());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = [0; 4096];
                let mut seen = Vec::new();
                while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
                    let read = stream.read(&mut bytes).unwrap();
                    seen.extend_from_slice(&bytes[..read]);
                }
                tell.send(()).unwrap();
                if told.recv().is_err() {
                    return;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
            }
        });
        Self { port, arrived, answer }
    }

    /// Lets one request be answered whenever it comes.
    fn answer_one(&self) {
        self.answer.send(()).unwrap();
    }
}

fn add_route(plan: &Plan, upstream: u16) {
    let service = format!("name=s&url=http://127.0.0.1:{upstream}");
    assert_eq!(ask(plan.admin, "POST", "/services", &service).unwrap().status, 201);
    assert_eq!(ask(plan.admin, "POST", "/services/s/routes", "name=r&paths[]=/r").unwrap().status, 201);
}

/// Waits until the route answers as it should; the upstream has been told to answer once.
fn wait_for_route(gateway: &mut Gateway, plan: &Plan) {
    gateway.wait_for("the route is not live", |_| ask(plan.proxy, "GET", "/r", "").is_ok_and(|it| it.status == 200));
}

#[test]
fn a_prefix_serves_one_node_and_health_says_so() {
    let plan = Plan::new([]);
    assert_eq!(plan.run(&["health"]).status.code(), Some(1));
    let gateway = plan.start();
    assert_eq!(plan.run(&["health"]).status.code(), Some(0));
    let again = plan.run(&["start"]);
    assert!(String::from_utf8_lossy(&again.stderr).starts_with("Error: tidegate is already running in "));
    let import = plan.run(&["config", "db_export", "out.yml"]);
    assert!(String::from_utf8_lossy(&import.stderr).contains("in use"), "{import:?}");
    assert_eq!(plan.run(&["stop"]).status.code(), Some(0));
    assert_eq!(gateway.ended().code(), Some(0));
    assert_eq!(plan.run(&["health"]).status.code(), Some(1));
}

#[test]
fn a_stop_finishes_what_runs_and_takes_no_more() {
    let plan = Plan::new([]);
    let mut gateway = plan.start();
    let upstream = Upstream::start();
    add_route(&plan, upstream.port);
    upstream.answer_one();
    wait_for_route(&mut gateway, &plan);
    upstream.arrived.recv().unwrap();

    let mut running = connect(plan.proxy).unwrap();
    send(&mut running, "GET", "/r", "").unwrap();
    upstream.arrived.recv().unwrap();
    gateway.signal("TERM");
    gateway.wait_for("the proxy still accepts", |_| !is_open(plan.proxy));
    upstream.answer_one();
    assert_eq!(receive(&mut running).unwrap().status, 200);
    assert_eq!(gateway.ended().code(), Some(0));
}

#[test]
fn a_second_signal_hurries() {
    let plan = Plan::new([]);
    let mut gateway = plan.start();
    let upstream = Upstream::start();
    add_route(&plan, upstream.port);
    upstream.answer_one();
    wait_for_route(&mut gateway, &plan);
    let mut running = connect(plan.proxy).unwrap();
    send(&mut running, "GET", "/r", "").unwrap();
    upstream.arrived.recv().unwrap();
    upstream.arrived.recv().unwrap();
    gateway.signal("TERM");
    gateway.wait_for("the proxy still accepts", |_| !is_open(plan.proxy));
    gateway.signal("INT");
    assert_eq!(gateway.ended().code(), Some(0), "though a request still ran");
}

#[test]
fn while_it_drains_it_serves_and_says_that_it_is_not_ready() {
    let plan = Plan::new([("TIDEGATE_DRAIN_DELAY", "600".to_owned())]);
    let mut gateway = plan.start();
    gateway.signal("QUIT");
    gateway.wait_for("the node does not say that it drains", |_| {
        ask(plan.status, "GET", "/status/ready", "").is_ok_and(|answer| answer.status == 503)
    });
    assert_eq!(ask(plan.proxy, "GET", "/nothing", "").unwrap().status, 404);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0));
}

#[test]
fn log_files_are_opened_again_on_a_hangup() {
    let mut plan = Plan::new([("KONG_PROXY_ERROR_LOG", "logs/error.log".to_owned())]);
    plan.set("KONG_PROXY_ACCESS_LOG", "logs/access.log");
    let mut gateway = plan.start();
    let logs = plan.prefix().join("logs");
    for name in ["access.log", "error.log"] {
        std::fs::rename(logs.join(name), logs.join(format!("{name}.1"))).unwrap();
    }
    gateway.signal("HUP");
    gateway.wait_for("the logs are not there again", |_| {
        let _ = ask(plan.proxy, "GET", "/after", "");
        let text = |name| std::fs::read_to_string(logs.join(name)).unwrap_or_default();
        text("error.log").contains("opened again") && text("access.log").contains("GET /after")
    });
}

#[test]
fn a_declarative_file_is_served_and_kept() {
    let mut plan = Plan::new([("KONG_DATABASE", "off".to_owned())]);
    let text = "_format_version: '3.0'\nservices:\n- {name: s, url: 'http://127.0.0.1:1', routes: [{paths: [/r]}]}\n";
    plan.set("KONG_DECLARATIVE_CONFIG_STRING", text);
    let gateway = plan.start();
    assert_eq!(ask(plan.proxy, "GET", "/r", "").unwrap().status, 502);
    assert_eq!(ask(plan.admin, "POST", "/consumers", "username=a").unwrap().status, 405);
    gateway.kill();
    plan.set("KONG_DECLARATIVE_CONFIG_STRING", "");
    let _gateway = plan.start();
    assert_eq!(ask(plan.proxy, "GET", "/r", "").unwrap().status, 502, "what was taken last is served again");
}

#[test]
fn without_any_configuration_the_proxy_stays_closed() {
    let [nobody] = free_ports();
    let mut plan = Plan::new([("KONG_DATABASE", "postgres".to_owned())]);
    plan.set("KONG_PG_PORT", &nobody.to_string());
    let mut gateway = plan.spawn();
    gateway.wait_for("the Admin API does not listen", |_| is_open(plan.admin));
    gateway.wait_for("the log does not say why", |gateway| {
        std::fs::read_to_string(&gateway.log).unwrap_or_default().contains("the database is away")
    });
    assert!(!is_open(plan.proxy));
    assert_eq!(ask(plan.status, "GET", "/status/ready", "").unwrap().status, 503);
    let began = Instant::now();
    assert_eq!(ask(plan.admin, "POST", "/consumers", "username=a").unwrap().status, 503);
    assert!(began.elapsed() < Duration::from_secs(2));
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0));
}

#[test]
fn a_node_serves_without_its_database_and_writes_when_it_is_back() {
    let server = Server::start();
    let database = server.create_database();
    let plan = Plan::new(database.env());
    let mut gateway = plan.start();
    let upstream = Upstream::start();
    add_route(&plan, upstream.port);
    upstream.answer_one();
    wait_for_route(&mut gateway, &plan);
    let kept = plan.prefix().join("postgres.snapshot");
    gateway.wait_for("the local snapshot is not written", |_| {
        std::fs::read(&kept).is_ok_and(|bytes| bytes.windows(4).any(|four| four == b"[\"/r"))
    });

    server.stop();
    upstream.answer_one();
    assert_eq!(ask(plan.proxy, "GET", "/r", "").unwrap().status, 200);
    assert_eq!(ask(plan.admin, "GET", "/services", "").unwrap().status, 200);
    assert_eq!(ask(plan.admin, "POST", "/consumers", "username=a").unwrap().status, 503);

    gateway.kill();
    let mut gateway = plan.start();
    upstream.answer_one();
    assert_eq!(ask(plan.proxy, "GET", "/r", "").unwrap().status, 200, "restarted without the database");
    assert_eq!(ask(plan.admin, "POST", "/consumers", "username=a").unwrap().status, 503);

    server.start_again();
    gateway.wait_for("writes do not come back", |_| {
        ask(plan.admin, "POST", "/consumers", "username=a").is_ok_and(|answer| answer.status == 201)
    });
    upstream.answer_one();
    wait_for_route(&mut gateway, &plan);
}

#[test]
fn what_one_node_writes_another_serves() {
    let database = Server::shared().create_database();
    let (one, two) = (Plan::new(database.env()), Plan::new(database.env()));
    let (_first, mut second) = (one.start(), two.start());
    let upstream = Upstream::start();
    add_route(&one, upstream.port);
    upstream.answer_one();
    wait_for_route(&mut second, &two);
}

#[test]
fn secrets_stay_out_of_what_is_shown() {
    let mut plan = Plan::new([("TIDEGATE_ADMIN_TOKEN", "a-token-of-mine".to_owned())]);
    let secret = plan.directory.path().join("secret");
    std::fs::write(&secret, "hush-hush\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    plan.set("KONG_PG_PASSWORD_FILE", secret.to_str().unwrap());
    let mut gateway = plan.start();
    let answer = ask(plan.admin, "GET", "/", "").unwrap();
    assert_eq!(answer.status, 401);
    let mut stream = connect(plan.admin).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nKong-Admin-Token: a-token-of-mine\r\n\r\n")
        .unwrap();
    let answer = receive(&mut stream).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.body.contains("\"pg_password\":\"******\"") && answer.body.contains("\"admin_token\":\"******\""));
    gateway.wait_for("no log", |gateway| std::fs::metadata(&gateway.log).is_ok_and(|file| file.len() > 0));
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(!log.contains("hush-hush") && !log.contains("a-token-of-mine"), "{log}");
}

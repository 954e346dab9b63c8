//! `tidegate demo` as a new user meets it: what it prints is run as it stands, and whatever ends it, nothing is left.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// The end of what is told before the user's turn.
const GUIDE_END: &str = "Ctrl-C ends all of it";

/// One at a time: two that start at once may pick the same ports.
static TURN: Mutex<()> = Mutex::new(());

/// A demo whose folder is in a place of the test's own.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    place: TempDir,
    /// Lines read so far.
    told: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        // What speaks to a node of this machine is not for the demo's.
        command.env("TMPDIR", place.path()).env("KONG_DATABASE", "postgres").env("TIDEGATE_NODE_ID", "other");
        let mut child = command.arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, place, told: Vec::new(), _turn: turn }
    }

    /// Reads on until a line contains `text`.
    fn until(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let length = self.stdout.read_line(&mut line).unwrap();
            assert!(length > 0, "the demo ended before it said {text:?}:\n{}", self.told.concat());
            self.told.push(line);
            if self.told.last().unwrap().contains(text) {
                return;
            }
        }
    }

    /// The lines for a shell that were printed.
    fn lines(&self) -> Vec<String> {
        let lines = self.told.iter().filter_map(|line| line.strip_prefix("    "));
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    fn signal(&self, name: &str) {
        signal(&self.child.id().to_string(), name);
    }

    /// Waits for the end; answers the exit code and what was said on stderr.
    fn ended(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let stderr = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (status.code(), stderr)
    }

    /// Waits until no process, no file and no port is left of the demo.
    fn assert_nothing_left(&self, ports: &[u16]) {
        let began = Instant::now();
        let left = |place: &Path| {
            let files = std::fs::read_dir(place).unwrap().count();
            let taken = ports.iter().filter(|port| {
                TcpListener::bind(("127.0.0.1", **port)).is_err() || UdpSocket::bind(("127.0.0.1", **port)).is_err()
            });
            (processes_of(place), files, taken.count())
        };
        loop {
            let left = left(self.place.path());
            if left == (Vec::new(), 0, 0) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "left of the demo (processes, files, ports): {left:?}");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that have `place` on their command line: the regions of a demo there.
fn processes_of(place: &Path) -> Vec<String> {
    let place = place.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&place) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

fn signal(pid: &str, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid} failed");
}

/// What a line prints when a shell runs it.
fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {} {err}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn json(line: &str) -> Value {
    let text = sh(line);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}

/// The value of a header in what `curl -i` printed.
fn header(answer: &str, name: &str) -> String {
    let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// Ports in the order in which they are first printed.
fn ports_of(lines: &[String]) -> Vec<u16> {
    let mut ports = Vec::new();
    for part in lines.iter().flat_map(|line| line.split("127.0.0.1:").skip(1)) {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        let port = digits.parse().unwrap();
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// A minute of the clock with at least 20 s left.
fn wait_for_a_fresh_minute() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let left = 60.0 - now % 60.0;
    if left < 20.0 {
        sleep(Duration::from_secs_f64(left + 0.05));
    }
}

#[test]
fn what_the_demo_prints_works_as_it_stands() {
    let mut demo = Demo::start();
    demo.until(GUIDE_END);
    let lines = demo.lines();
    let [around, told, keyless, limits, change, lose] = &lines[..] else { panic!("{lines:?}") };

    wait_for_a_fresh_minute();
    let statuses = sh(around);
    let count = |status: &str| statuses.lines().filter(|line| line.ends_with(status)).count();
    println!("15 requests over three regions, minute=10:\n{statuses}");
    assert_eq!((count(" 200"), count(" 429")), (10, 5), "{statuses}");
    let refused = sh(told);
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert_eq!(header(&refused, "ratelimit-remaining"), "0", "{refused}");
    assert!(sh(keyless).starts_with("HTTP/1.1 401 "));

    let listed = json(limits);
    let row = &listed["data"][0];
    assert_eq!((&row["limit"], &row["period"]), (&10.into(), &"minute".into()), "{listed}");
    assert_eq!(row["own"].as_u64().unwrap() + row["remote"].as_u64().unwrap(), 10, "{listed}");
    assert_eq!(row["identifier"], "ann", "{listed}");

    assert_eq!(json(change)["config"]["minute"], 20);
    assert_eq!(header(&sh(told), "x-ratelimit-limit-minute"), "20");

    sh(lose.split(';').next().unwrap());
    demo.until("iad has ended (signal: 9 (SIGKILL)). Its last lines:");
    let view = json(lose.split("; ").last().unwrap());
    assert_eq!(view["nodes"].as_array().unwrap().len(), 3, "{view}");

    demo.signal("INT");
    demo.until("Nothing is left of them.");
    assert_eq!(demo.ended(), (Some(0), String::new()));
    demo.assert_nothing_left(&ports_of(&demo.told));
}

#[test]
fn a_demo_that_is_told_to_end_while_it_starts_leaves_nothing() {
    for name in ["TERM", "INT", "HUP"] {
        let mut demo = Demo::start();
        demo.until("Starting three regions");
        demo.signal(name);
        assert_eq!(demo.ended(), (Some(0), String::new()), "SIG{name}");
        demo.assert_nothing_left(&[]);
    }
}

#[test]
fn a_demo_that_is_killed_leaves_nothing() {
    for point in ["Starting three regions", GUIDE_END] {
        let mut demo = Demo::start();
        demo.until(point);
        while processes_of(demo.place.path()).is_empty() {}
        demo.signal("KILL");
        demo.ended();
        demo.assert_nothing_left(&ports_of(&demo.told));
    }
}

#[test]
fn a_region_that_ends_while_the_demo_starts_ends_it_with_a_reason() {
    let mut demo = Demo::start();
    demo.until("Starting three regions");
    let region = loop {
        if let Some(pid) = processes_of(demo.place.path()).pop() {
            break pid;
        }
    };
    signal(&region, "KILL");
    let (code, stderr) = demo.ended();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("has ended (signal: 9 (SIGKILL)). Its last lines:"), "{stderr}");
    demo.assert_nothing_left(&[]);
}

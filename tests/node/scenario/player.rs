//! Plays one recorded scenario against a gateway: what `tests/scenarios/*.json` mean.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::scenario::client::{Answer, Client, NoAnswer};
use crate::scenario::matching::{Mismatch, matches, shorten, shorten_text};
use crate::scenario::text::{fill, http_date, json_text, quote, sign};
use crate::scenario::upstream::Upstream;

const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const CLEANUP_LIMIT: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_millis(50);
const SEEN_WAIT: Duration = Duration::from_secs(5);

/// Values that `{name}` in a scenario stands for.
pub type Names = HashMap<String, String>;

/// Plays scenarios one after another against one gateway.
pub struct Player {
    pub admin: Client,
    pub proxy: Client,
    pub proxytls: Option<Client>,
    pub upstream: Upstream,
}

/// What can go wrong in a step.
enum Trouble {
    Mismatch(String),
    NoAnswer(NoAnswer),
}

impl From<Mismatch> for Trouble {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch.0)
    }
}

impl Player {
    /// `None` when everything held, else the first failure.
    pub fn play(&mut self, scenario: &Value) -> Option<String> {
        let steps = scenario["steps"].as_array().expect("a scenario has steps");
        let mut names = self.names();
        let promised: Vec<&String> =
            steps.iter().filter_map(|step| step["save"].as_object()).flat_map(Map::keys).collect();
        self.upstream.clear();
        let mut made = Vec::new();
        let (mut failure, mut hung) = (None, false);
        for (number, step) in steps.iter().enumerate() {
            let line = step["do"].as_str().expect("a step has a line");
            let lacks = promised.iter().any(|name| line.contains(&format!("{{{name}}}")) && !names.contains_key(*name));
            if failure.is_some() && (step["always"] != true || lacks) {
                continue;
            }
            let limit = if hung { CLEANUP_LIMIT } else { REQUEST_LIMIT };
            let Err(trouble) = self.play_step(step, &mut names, &mut made, limit) else { continue };
            let (text, now_hung) = match trouble {
                Trouble::Mismatch(text) => (text, false),
                Trouble::NoAnswer(no) => (no.text, no.hung),
            };
            hung |= now_hung;
            failure.get_or_insert_with(|| format!("step {} ({}): {text}", number + 1, fill_text(line, &names)));
        }
        if failure.is_some() && !hung {
            self.sweep(&made);
        }
        failure
    }

    fn names(&self) -> Names {
        let up = &self.upstream;
        let mut names = Names::new();
        let mut put = |name: &str, value: String| names.insert(name.to_owned(), value);
        put("uniq", format!("u{}", &Uuid::new_v4().simple().to_string()[..10]));
        for name in ["uuid", "uuid2", "uuid3"] {
            put(name, Uuid::new_v4().to_string());
        }
        for (i, port) in up.ports.iter().enumerate() {
            let tail = if i == 0 { String::new() } else { (i + 1).to_string() };
            put(&format!("upstream{tail}"), format!("127.0.0.1:{port}"));
            put(&format!("upstream{tail}_host"), "127.0.0.1".to_owned());
            put(&format!("upstream{tail}_port"), port.to_string());
        }
        for (name, port) in [("tcp_port", up.tcp_port), ("udp_port", up.udp_port), ("dead_port", up.dead_port)] {
            put(name, port.to_string());
        }
        let sides = [("admin", Some(&self.admin)), ("proxy", Some(&self.proxy)), ("proxytls", self.proxytls.as_ref())];
        for (side, client) in sides {
            if let Some(client) = client {
                put(&format!("{side}_host"), client.address.ip().to_string());
                put(&format!("{side}_port"), client.address.port().to_string());
            }
        }
        names
    }

    /// After a failure, removes what the scenario made and could not remove itself.
    fn sweep(&mut self, made: &[String]) {
        for path in made.iter().rev() {
            if self.admin.request("DELETE", path, &[], b"", CLEANUP_LIMIT).is_err() {
                return;
            }
        }
    }

    fn play_step(
        &mut self,
        step: &Value,
        names: &mut Names,
        made: &mut Vec<String>,
        limit: Duration,
    ) -> Result<(), Trouble> {
        let line = step["do"].as_str().unwrap_or_default();
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words[0] {
            "WAIT" => sleep(Duration::from_millis(words[1].parse().expect("milliseconds"))),
            "ALIGN" => align(words[1], words[2].parse().expect("seconds")),
            "SEEN" => {
                self.seen(&fill_text(words[1], names), &fill(&step["expect"]["upstream"], names), settle(step))?
            }
            _ => self.converse(step, &words, names, made, limit)?,
        }
        Ok(())
    }

    /// Sends the step's request until what it expects holds, or its time to settle is over.
    fn converse(
        &mut self,
        step: &Value,
        words: &[&str],
        names: &mut Names,
        made: &mut Vec<String>,
        limit: Duration,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + settle(step).unwrap_or_default();
        let answer = loop {
            match self.attempt(step, words, names, made, limit) {
                Ok(answer) => break answer,
                Err(Trouble::NoAnswer(no)) if no.hung => return Err(Trouble::NoAnswer(no)),
                Err(trouble) if Instant::now() >= deadline => return Err(trouble),
                Err(_) => sleep(RETRY_EVERY),
            }
        };
        save(step, &answer, names)
    }

    fn attempt(
        &mut self,
        step: &Value,
        words: &[&str],
        names: &mut Names,
        made: &mut Vec<String>,
        limit: Duration,
    ) -> Result<Answer, Trouble> {
        let (method, side) = (words[0], words[1]);
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        names.insert("now".to_owned(), now_s.to_string());
        names.insert("http_date".to_owned(), http_date(now_s));
        let first = self.upstream.mark();
        let mut last = None;
        for i in 1..=step["repeat"].as_u64().unwrap_or(1) {
            names.insert("i".to_owned(), i.to_string());
            let path = fill_text(words.get(2).copied().unwrap_or_default(), names);
            let mark = self.upstream.mark();
            let answer = self.send(step, method, side, &path, names, limit).map_err(Trouble::NoAnswer)?;
            note(method, side, &path, &answer, made);
            last = Some((answer, mark));
        }
        let (answer, mark) = last.ok_or_else(|| Trouble::Mismatch("repeat is 0".to_owned()))?;
        let expect = fill(&step["expect"], names);
        self.check(&expect, &answer, mark)?;
        self.check_certificate(&expect, side)?;
        self.tally(&expect["tally"], first)?;
        Ok(answer)
    }

    fn client(&mut self, side: &str) -> &mut Client {
        match side {
            "admin" => &mut self.admin,
            "proxy" => &mut self.proxy,
            "proxytls" => self.proxytls.as_mut().expect("the player has a TLS listener"),
            _ => panic!("the scenario addresses {side:?}"),
        }
    }

    fn send(
        &mut self,
        step: &Value,
        method: &str,
        side: &str,
        path: &str,
        names: &Names,
        limit: Duration,
    ) -> Result<Answer, NoAnswer> {
        let client = self.client(side);
        let sni = step["sni"].as_str().map(|text| fill_text(text, names));
        client.name_server(sni);
        if method == "RAW" {
            return client.raw(&fill_text(step["raw"].as_str().unwrap_or_default(), names), limit);
        }
        let (mut headers, body) = make_request(step, names);
        if step["hmac"].is_object() {
            let authority = client.address.to_string();
            let value = sign(&fill(&step["hmac"], names), method, path, &headers, &authority);
            headers.push(("Authorization".to_owned(), value));
        }
        client.request(method, path, &headers, &body, limit)
    }

    fn check(&self, expect: &Value, answer: &Answer, mark: usize) -> Result<(), Mismatch> {
        check_status(&expect["status"], answer)?;
        for (name, want) in expect["headers"].as_object().into_iter().flatten() {
            let got = answer.header(name).map(|text| Value::String(text.to_owned()));
            matches(want, got.as_ref(), &format!("header {name}"))?;
        }
        if let Some(want) = expect.get("body") {
            matches(want, Some(&Value::String(answer.text())), "body")?;
        }
        if let Some(want) = expect.get("json") {
            let got = answer.json();
            let text = || Mismatch(format!("expected a JSON answer, got {}", shorten_text(&answer.text())));
            matches(want, Some(&got.ok_or_else(text)?), "json")?;
        }
        match expect.get("upstream") {
            None => Ok(()),
            Some(want) => self.check_upstream(want, answer, mark),
        }
    }

    fn check_upstream(&self, want: &Value, answer: &Answer, mark: usize) -> Result<(), Mismatch> {
        match (want, self.upstream.since(mark).last()) {
            (Value::Null, None) => Ok(()),
            (Value::Null, Some(seen)) => Err(Mismatch(format!("upstream: expected no request, got {}", shorten(seen)))),
            (_, None) => Err(Mismatch(format!(
                "upstream: expected a request, got none (answer {}: {})",
                answer.status,
                shorten_text(&answer.text())
            ))),
            (want, seen) => matches(want, seen, "upstream"),
        }
    }

    fn check_certificate(&mut self, expect: &Value, side: &str) -> Result<(), Mismatch> {
        let Some(text) = expect["certificate"].as_str() else { return Ok(()) };
        let shown = &self.client(side).certificate;
        if shown.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(());
        }
        Err(Mismatch(format!("the server's certificate does not name {text}")))
    }

    fn tally(&self, want: &Value, first: usize) -> Result<(), Mismatch> {
        let Some(wanted) = want.as_object() else { return Ok(()) };
        let seen = self.upstream.since(first);
        let count = |server: u64| seen.iter().filter(|one| one["server"] == server).count();
        for (name, want) in wanted {
            let got = match name.parse() {
                Ok(server) => count(server),
                Err(_) => (1..=9).filter(|&server| count(server) > 0).count(),
            };
            matches(want, Some(&json!(got)), &format!("tally.{name}"))?;
        }
        Ok(())
    }

    /// Waits until a request for `path` matches, or, when none may come, until the time is over.
    fn seen(&self, path: &str, want: &Value, wait: Option<Duration>) -> Result<(), Mismatch> {
        let deadline = Instant::now() + wait.unwrap_or(SEEN_WAIT);
        loop {
            let requests: Vec<Value> =
                self.upstream.since(0).into_iter().filter(|request| request["path"] == path).collect();
            let over = Instant::now() >= deadline;
            if want.is_null() && over {
                return match requests.last() {
                    None => Ok(()),
                    Some(last) => Err(Mismatch(format!("upstream: expected none for {path}, got {}", shorten(last)))),
                };
            }
            if !want.is_null() && requests.iter().any(|one| matches(want, Some(one), "upstream").is_ok()) {
                return Ok(());
            }
            if over {
                let none = || Mismatch(format!("upstream: no request for {path}"));
                return matches(want, Some(requests.last().ok_or_else(none)?), "upstream");
            }
            sleep(RETRY_EVERY);
        }
    }
}

fn settle(step: &Value) -> Option<Duration> {
    step["settle_s"].as_f64().map(Duration::from_secs_f64)
}

fn fill_text(text: &str, names: &Names) -> String {
    match fill(&Value::String(text.to_owned()), names) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn check_status(want: &Value, answer: &Answer) -> Result<(), Mismatch> {
    let holds = match want {
        Value::Null => true,
        Value::Array(allowed) => allowed.iter().any(|one| *one == answer.status),
        one => *one == answer.status,
    };
    if holds {
        return Ok(());
    }
    let body = shorten_text(&answer.text());
    Err(Mismatch(format!("expected status {want}, got {}: {body}", answer.status)))
}

/// Remembers the path of an entity that the scenario made.
fn note(method: &str, side: &str, path: &str, answer: &Answer, made: &mut Vec<String>) {
    if side != "admin" || !matches!(answer.status, 200 | 201) || !matches!(method, "POST" | "PUT") {
        return;
    }
    let Some(id) = answer.json().and_then(|entity| entity["id"].as_str().map(str::to_owned)) else { return };
    let base = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    made.push(if method == "POST" { format!("{base}/{id}") } else { base.to_owned() });
}

fn save(step: &Value, answer: &Answer, names: &mut Names) -> Result<(), Trouble> {
    for (name, place) in step["save"].as_object().into_iter().flatten() {
        let place = place.as_str().unwrap_or_default();
        let missing = || Trouble::Mismatch(format!("cannot save {place:?}: {}", shorten_text(&answer.text())));
        let value = match place.strip_prefix("header:") {
            Some(header) => answer.header(header.trim()).map(str::to_owned),
            None => answer.json().and_then(|document| pick(&document, place)),
        };
        names.insert(name.clone(), value.ok_or_else(missing)?);
    }
    Ok(())
}

fn pick(document: &Value, place: &str) -> Option<String> {
    let mut value = document;
    for part in place.split('.').filter(|part| !part.is_empty()) {
        value = match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
    }
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The headers and body of a step.
fn make_request(step: &Value, names: &Names) -> (Vec<(String, String)>, Vec<u8>) {
    let mut headers = Vec::new();
    for (name, value) in flat_headers(&fill(&step["headers"], names)) {
        headers.push((name, value));
    }
    let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let part = |name: &str| step.get(name).map(|value| fill(value, names));
    let (kind, body) = if let Some(Value::Array(pairs)) = part("form") {
        (Some("application/x-www-form-urlencoded"), form_text(&pairs).into_bytes())
    } else if let Some(document) = part("json") {
        (Some("application/json"), json_text(&document).into_bytes())
    } else if let Some(Value::String(text)) = part("body") {
        (None, text.into_bytes())
    } else if let Some(Value::String(text)) = part("body_b64") {
        (None, STANDARD.decode(text).expect("base64"))
    } else {
        (None, vec![b'x'; step["body_size"].as_u64().unwrap_or(0) as usize])
    };
    if let (Some(kind), false) = (kind, typed) {
        headers.push(("Content-Type".to_owned(), kind.to_owned()));
    }
    (headers, body)
}

/// Headers are given as an object or as a list of pairs; a list as a value is sent once per item.
fn flat_headers(given: &Value) -> Vec<(String, String)> {
    let pairs: Vec<(String, Value)> = match given {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        Value::Array(items) => {
            items.iter().map(|item| (item[0].as_str().unwrap_or_default().to_owned(), item[1].clone())).collect()
        }
        _ => Vec::new(),
    };
    let mut flat = Vec::new();
    for (name, value) in pairs {
        match value {
            Value::Array(items) => flat.extend(items.iter().map(|item| (name.clone(), plain(item)))),
            other => flat.push((name, plain(&other))),
        }
    }
    flat
}

fn form_text(pairs: &[Value]) -> String {
    let pair =
        |item: &Value| format!("{}={}", quote(&plain(&item[0]), "[]"), quote(&plain(&item[1]), " ").replace(' ', "+"));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Waits until at least `seconds` of the current span (UTC) are left.
fn align(span: &str, seconds: f64) {
    let length = match span {
        "second" => 1.0,
        "minute" => 60.0,
        "hour" => 3_600.0,
        "day" => 86_400.0,
        _ => panic!("the scenario aligns to {span:?}"),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let left = length - now % length;
    if left < seconds {
        sleep(Duration::from_secs_f64(left + 0.05));
    }
}

#[test]
fn a_saved_member_is_found_by_its_path() {
    let document = json!({"data": [{"id": "x"}, {"n": 5}]});
    assert_eq!(pick(&document, "data.0.id").as_deref(), Some("x"));
    assert_eq!(pick(&document, "data.1.n").as_deref(), Some("5"));
    assert_eq!(pick(&document, "data.2.n"), None);
}

//! `tidegate cluster status` and `tidegate cluster leave`: asked of the node of this prefix.

use serde_json::Value;

use crate::node::command::failure::Failure;
use crate::node::command::running::{await_end, seconds};
use crate::node::command::words::Invocation;
use crate::node::instance;
use crate::node::local_http::{Answer, ask, local, token};
use crate::node::settings::Settings;
use crate::node::terminal::say;

const COLUMNS: [&str; 8] = ["NODE", "REGION", "STATE", "ADDRESS", "REVISION", "RTT", "HEARD", "VERSION"];

pub fn run(invocation: &Invocation, settings: &Settings) -> Result<(), Failure> {
    match invocation.subcommand {
        Some("leave") => leave(invocation, settings),
        _ => status(settings),
    }
}

fn status(settings: &Settings) -> Result<(), Failure> {
    let answer = ask_anybody(settings)?;
    if answer.status != 200 {
        return Err(format!("GET /cluster was answered {}: {}", answer.status, answer.body.trim()).into());
    }
    let document = serde_json::from_str(&answer.body)
        .map_err(|error| format!("GET /cluster was answered with something else: {error}"))?;
    say(&shown(&document));
    Ok(())
}

/// The status listener, which wants no token, else the Admin API.
fn ask_anybody(settings: &Settings) -> Result<Answer, Failure> {
    let admin = &settings.admin;
    let status = local(&admin.status_listen).map(|address| (address, None));
    let api = local(&admin.listen).map(|address| (address, token(settings, true)));
    let mut failure = "neither status_listen nor admin_listen has a listener without TLS".to_owned();
    for (address, token) in status.into_iter().chain(api) {
        match ask(address, "GET", "/cluster", token) {
            Ok(answer) => return Ok(answer),
            Err(error) => failure = format!("the node at {address} does not answer: {error}"),
        }
    }
    Err(failure.into())
}

/// Tells the node to leave, and waits until it has drained and ended.
fn leave(invocation: &Invocation, settings: &Settings) -> Result<(), Failure> {
    let seconds = seconds(invocation)?;
    let address = local(&settings.admin.listen).ok_or("admin_listen has no listener without TLS")?;
    let pid = instance::running(&settings.node.prefix);
    let answer = ask(address, "POST", "/cluster/leave", token(settings, false))
        .map_err(|error| format!("the Admin API at {address} does not answer: {error}"))?;
    if !(200..300).contains(&answer.status) {
        return Err(format!("POST /cluster/leave was answered {}: {}", answer.status, answer.body.trim()).into());
    }
    if let Some(pid) = pid {
        await_end(&settings.node.prefix, pid, seconds)?;
    }
    say("The node left the cluster\n");
    Ok(())
}

/// The document of `GET /cluster` as a table, this node marked.
fn shown(document: &Value) -> String {
    let me = text(&document["self"]);
    let nodes = document["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let header = COLUMNS.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(nodes.iter().map(|node| row(node, &me))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        table += cells.collect::<Vec<_>>().join("  ").trim_end();
        table.push('\n');
    }
    let agreed = if document["converged"] == true { "converged" } else { "not converged" };
    table
        + &format!("\n{} nodes, {agreed}, revision {}\n", nodes.len(), revision(&document["revision"]))
        + &limits(document)
}

/// A line where limits are decided without the counts of some node.
fn limits(document: &Value) -> String {
    match &document["limits"]["reason"] {
        Value::String(reason) => format!("limits are degraded: {}\n", text(&Value::from(reason.as_str()))),
        _ => String::new(),
    }
}

fn row(node: &Value, me: &str) -> [String; 8] {
    let id = text(&node["node_id"]);
    let own = id == me;
    let ms = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    [
        if own { format!("{id} *") } else { id },
        text(&node["region"]),
        text(&node["state"]),
        text(&node["address"]),
        revision(&node["revision"]),
        ms(&node["rtt_ms"]),
        if own { "-".to_owned() } else { ms(&node["last_heard_ms"]) },
        text(&node["version"]),
    ]
}

/// What a node says is shown without anything that could move a terminal's cursor.
fn text(value: &Value) -> String {
    match value.as_str().unwrap_or_default() {
        "" => "-".to_owned(),
        text => text.chars().filter(|c| !c.is_control()).collect(),
    }
}

fn revision(value: &Value) -> String {
    let number = |name: &str| value[name].as_u64().unwrap_or_default();
    format!("{}.{}", number("epoch"), number("number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_shown_as_a_table() {
        let node = |id: &str, state: &str, rtt: Value| {
            json!({"node_id": id, "region": "fra", "address": "[fdaa::3]:8005", "state": state, "version": "0.1.0",
                   "revision": {"epoch": 1, "number": 42}, "rtt_ms": rtt, "last_heard_ms": 80})
        };
        let document = json!({"self": "a", "converged": true, "revision": {"epoch": 1, "number": 42},
                              "limits": {"mode": "degraded", "reason": "b (fra) is suspect"},
                              "nodes": [node("a", "alive", Value::Null), node("b\u{1b}[2J", "suspect", json!(12.34))]});
        let expected = "\
NODE  REGION  STATE    ADDRESS         REVISION  RTT      HEARD    VERSION
a *   fra     alive    [fdaa::3]:8005  1.42      -        -        0.1.0
b[2J  fra     suspect  [fdaa::3]:8005  1.42      12.3 ms  80.0 ms  0.1.0

2 nodes, converged, revision 1.42
limits are degraded: b (fra) is suspect
";
        assert_eq!(shown(&document), expected);
    }

    #[test]
    fn an_answer_of_any_shape_is_shown() {
        for document in [json!(null), json!({"nodes": [1, null, {}]}), json!({"nodes": {}})] {
            assert!(shown(&document).contains("not converged"));
        }
    }
}

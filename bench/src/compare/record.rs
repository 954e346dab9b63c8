//! Raw results, a JSON document per line: first what was run where, then each measurement as soon as it is there.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use tidegate_bench::Outcome;

use crate::round::Measured;

pub struct Record {
    file: File,
    pub path: PathBuf,
}

impl Record {
    /// A new file in `folder`, named by date and time.
    pub fn create(folder: &Path, options: &[String], peers: &[(String, String)]) -> Outcome<Record> {
        std::fs::create_dir_all(folder)?;
        let now = jiff::Timestamp::now();
        let path = folder.join(format!("{}.jsonl", now.strftime("%Y-%m-%dT%H-%M-%SZ")));
        let mut record = Record { file: File::create(&path)?, path };
        let peers: Vec<Value> = peers.iter().map(|(name, version)| json!({"name": name, "version": version})).collect();
        record.write(&json!({
            "date": now.to_string(),
            "machine": {"cpu": cpu_model(), "cores": std::thread::available_parallelism()?.get(), "kernel": kernel()},
            "options": options,
            "peers": peers,
        }))?;
        Ok(record)
    }

    pub fn measured(&mut self, work: &str, peer: &str, round: usize, rate: Option<f64>, it: &Measured) -> Outcome<()> {
        self.write(&json!({
            "work": work,
            "peer": peer,
            "round": round,
            "cpu_us": rounded(it.cpu_us),
            "rps": rounded(it.rps),
            "load_us": rounded(it.load_us),
            "rate": rate.map(rounded),
            "p50_us": rounded(it.p50_us),
            "p99_us": rounded(it.p99_us),
            "paced_cpu_us": rounded(it.paced_cpu_us),
            "resident_kb": it.resident_kb,
            "answered": it.answered,
            "failed": it.failed,
        }))
    }

    fn write(&mut self, line: &Value) -> Outcome<()> {
        writeln!(self.file, "{line}")?;
        Ok(())
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    line.trim_matches([' ', '\t', ':']).to_owned()
}

fn kernel() -> String {
    let output = Command::new("uname").arg("-r").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

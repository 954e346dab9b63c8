//! The baseline: what each work cost when somebody last looked and said that it may.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::Outcome;

/// As it stands in the repository, or nothing.
pub struct Baseline {
    rustc: String,
    valgrind: String,
    instructions: Map<String, Value>,
}

impl Baseline {
    pub fn read() -> Outcome<Baseline> {
        let text = match std::fs::read_to_string(path()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(error.into()),
        };
        let read: Value = serde_json::from_str(&text)?;
        let said = |name: &str| read[name].as_str().unwrap_or("none").to_owned();
        let instructions = read["instructions"].as_object().cloned().unwrap_or_default();
        Ok(Baseline { rustc: said("rustc"), valgrind: said("valgrind"), instructions })
    }

    pub fn of(&self, work: &str) -> Option<f64> {
        self.instructions.get(work)?.as_f64()
    }

    /// What it was counted with: another compiler makes other instructions.
    pub fn origin(&self) -> String {
        format!("{}, {}", self.rustc, self.valgrind)
    }

    /// Takes new counts in, to one digit after the point.
    pub fn replace(&mut self, counted: &[(&str, f64)], valgrind: &str) {
        let output = Command::new("rustc").arg("--version").output();
        self.rustc =
            output.map_or_else(|_| "rustc?".to_owned(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
        valgrind.clone_into(&mut self.valgrind);
        for (work, count) in counted {
            self.instructions.insert((*work).to_owned(), json!((count * 10.0).round() / 10.0));
        }
    }

    pub fn write(&self) -> Outcome<PathBuf> {
        let all = json!({"rustc": self.rustc, "valgrind": self.valgrind, "instructions": self.instructions});
        std::fs::write(path(), serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(path())
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("micro-baseline.json")
}

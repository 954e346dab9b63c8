//! What the command line says.

use std::path::PathBuf;

use tidegate_bench::Outcome;

use crate::WORKS;

pub const USAGE: &str = "\
tidegate-bench-node: instructions per request of the proxy's worker, counted by callgrind in a running node

  --binary PATH    the build to count (default: the one beside this program)
  --before PATH    another build, counted in the same run; changes are shown against it
  --works A,B      of plain, limited, h2, upload, chunked (default: all)
  --requests N     requests of the first count; the second count has twice as many (1000)
  --runs N         processes of each build and work, of which the median counts (3)
  --keep FOLDER    where the worker's profiles are kept, for callgrind_annotate

The exit code is 1 when plain or limited costs over 2 % more than before.";

pub struct Options {
    pub binary: Option<PathBuf>,
    pub before: Option<PathBuf>,
    pub works: Vec<String>,
    pub requests: usize,
    pub runs: usize,
    pub keep: Option<PathBuf>,
}

impl Options {
    /// `None`: help was asked for.
    pub fn read(words: &[String]) -> Outcome<Option<Options>> {
        let works = WORKS.iter().map(|work| work.name.to_owned()).collect();
        let mut options = Options { binary: None, before: None, works, requests: 1000, runs: 3, keep: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--binary" => options.binary = Some(value()?.into()),
                "--before" => options.before = Some(value()?.into()),
                "--works" => options.works = value()?.split(',').map(|name| name.trim().to_owned()).collect(),
                "--requests" => options.requests = value()?.parse()?,
                "--runs" => options.runs = value()?.parse()?,
                "--keep" => options.keep = Some(value()?.into()),
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown option {other}\n\n{USAGE}").into()),
            }
        }
        if let Some(unknown) = options.works.iter().find(|name| WORKS.iter().all(|work| work.name != **name)) {
            return Err(format!("there is no work {unknown}\n\n{USAGE}").into());
        }
        if options.requests == 0 || options.runs == 0 {
            return Err("at least one request and one run are needed".into());
        }
        Ok(Some(options))
    }
}

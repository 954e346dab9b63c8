//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_bench::Outcome;
use tidegate_bench::work::WORKS;

pub const USAGE: &str = "\
tidegate-bench-compare: CPU per proxied request of tidegate beside other gateways, on one backend, in the same run

  --quick              nginx and tidegate only, 3 rounds of 1 s, works plain, limited and routes
  --works A,B          of plain, limited, routes, h2, big, upload, chunked-64k, chunked-1m, chunked-answer, connect,
                       http10, http10-keep; all when not given
  --peers A,B          of nginx, haproxy, caddy, envoy, pingora, tidegate; all that are installed when not given
  --rounds N           rounds, interleaved (7)
  --seconds S          seconds of a measurement (2); a round has two: as fast as it goes, and at half of nginx's rate
  --tidegate PATH      the program, instead of the one beside this
  --before PATH        another build of tidegate, compared as `before`
  --runs FOLDER        where the raw results go (bench/runs of this repository)
";

pub struct Options {
    pub works: Vec<String>,
    /// `None`: all.
    pub peers: Option<Vec<String>>,
    pub rounds: usize,
    pub lasts: Duration,
    pub tidegate: Option<PathBuf>,
    pub before: Option<PathBuf>,
    pub runs: PathBuf,
}

impl Options {
    /// `None`: help was asked for.
    pub fn read(words: &[String]) -> Outcome<Option<Options>> {
        let mut options = Options {
            works: WORKS.iter().map(|work| work.name.to_owned()).collect(),
            peers: None,
            rounds: 7,
            lasts: Duration::from_secs(2),
            tidegate: None,
            before: None,
            runs: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("runs"),
        };
        if words.iter().any(|word| word == "--quick") {
            options.works = list("plain,limited,routes");
            options.peers = Some(list("nginx,tidegate"));
            options.rounds = 3;
            options.lasts = Duration::from_secs(1);
        }
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--quick" => {}
                "--works" => options.works = list(value()?),
                "--peers" => options.peers = Some(list(value()?)),
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.lasts = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--tidegate" => options.tidegate = Some(value()?.into()),
                "--before" => options.before = Some(value()?.into()),
                "--runs" => options.runs = value()?.into(),
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown option {other}\n\n{USAGE}").into()),
            }
        }
        if let Some(unknown) = options.works.iter().find(|name| WORKS.iter().all(|work| work.name != **name)) {
            return Err(format!("there is no work {unknown}\n\n{USAGE}").into());
        }
        if options.rounds == 0 {
            return Err("at least one round is needed".into());
        }
        Ok(Some(options))
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

//! What was said: each property's text, by the source that wins. What it means is decided in `Settings`.
//!
//! Sources, highest first: the command line, `TIDEGATE_<P>`, `KONG_<P>`, the file. A variable set to nothing takes
//! the property back to its default. `<P>_FILE` variables, which for Kong the container's entrypoint understands, are
//! read here. Pure but for `Sources::read_file`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::node::settings::conf_file;
use crate::node::settings::property::Effect;
use crate::node::settings::table::{self, PROPERTIES};

/// Tried in this order when no file is named.
pub const DEFAULT_FILES: [&str; 3] = ["/etc/tidegate/tidegate.conf", "/etc/kong/kong.conf", "/etc/kong.conf"];

/// A longer file is refused.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where settings are looked for.
pub struct Sources<'a> {
    pub environment: BTreeMap<String, String>,
    /// `-c FILE`: must exist.
    pub file: Option<PathBuf>,
    /// `-p PREFIX`.
    pub prefix: Option<String>,
    pub read_file: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// Each property's text, and what was said beside properties.
#[derive(Debug, Default)]
pub struct Said {
    texts: BTreeMap<&'static str, String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// `nginx_*` directives that are no property.
    pub directives: Vec<String>,
    /// Names of no property, in the file or behind `KONG_` or `TIDEGATE_`.
    pub unknown: Vec<String>,
    pub odd_lines: Vec<usize>,
}

impl Said {
    /// Gathers all sources. The second part is what stands in the way of a start.
    pub fn gather(sources: &Sources<'_>) -> (Self, Vec<String>) {
        let (mut said, mut problems) = (Self::default(), Vec::new());
        if let Err(problem) = said.take_file(sources) {
            problems.push(problem);
        }
        for marker in ["KONG_", "TIDEGATE_"] {
            said.take_environment(marker, sources, &mut problems);
        }
        if let Some(prefix) = &sources.prefix {
            said.say("prefix", prefix);
        }
        (said, problems)
    }

    /// The text of a property, if anybody said one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    fn take_file(&mut self, sources: &Sources<'_>) -> Result<(), String> {
        let Some((path, bytes)) = find_file(sources)? else { return Ok(()) };
        if bytes.len() > FILE_BYTES_MAX {
            return Err(format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display()));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| format!("{} is not UTF-8 text: {}", path.display(), error.utf8_error()))?;
        let file = conf_file::parse(&text);
        for (name, value) in &file.pairs {
            self.say(name, value);
        }
        self.odd_lines = file.odd_lines;
        self.file = Some(path);
        Ok(())
    }

    fn take_environment(&mut self, marker: &str, sources: &Sources<'_>, problems: &mut Vec<String>) {
        for (variable, value) in &sources.environment {
            let Some(name) = variable.strip_prefix(marker) else { continue };
            let name = name.to_lowercase();
            match name.strip_suffix("_file").and_then(table::property) {
                None => self.say(&name, value),
                Some(property) => match secret_file(variable, value, sources) {
                    Ok(Some(text)) => self.say(property.name, &text),
                    Ok(None) => {}
                    Err(problem) => problems.push(problem),
                },
            }
        }
    }

    /// Later words win; an empty one takes back what was said before.
    fn say(&mut self, name: &str, text: &str) {
        let Some(property) = table::property(name) else {
            let place = if name.starts_with("nginx_") { &mut self.directives } else { &mut self.unknown };
            if !place.iter().any(|known| known == name) {
                place.push(name.to_owned());
            }
            return;
        };
        if text.is_empty() {
            self.texts.remove(property.name);
        } else {
            self.texts.insert(property.name, text.to_owned());
        }
    }
}

/// The environment of this process, as far as it is text. The second part names variables of ours that are not.
pub fn environment() -> (BTreeMap<String, String>, Vec<String>) {
    let (mut text, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                text.insert(name, value);
            }
            Err(_) if name.starts_with("TIDEGATE_") || name.starts_with("KONG_") => {
                problems.push(format!("the environment variable {name} is not UTF-8 text"));
            }
            Err(_) => {}
        }
    }
    (text, problems)
}

fn find_file(sources: &Sources<'_>) -> Result<Option<(PathBuf, Vec<u8>)>, String> {
    let read = |path: &Path| match (sources.read_file)(path) {
        Ok(bytes) => Ok(Some((path.to_owned(), bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    };
    if let Some(path) = &sources.file {
        return read(path)?.ok_or_else(|| format!("no file at: {}", path.display())).map(Some);
    }
    for path in DEFAULT_FILES {
        if let Some(found) = read(Path::new(path))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The content of the file that a `<P>_FILE` variable names, without line ends behind it.
fn secret_file(variable: &str, path: &str, sources: &Sources<'_>) -> Result<Option<String>, String> {
    let plain = variable.strip_suffix("_FILE").unwrap_or(variable);
    if path.is_empty() {
        return Ok(None);
    }
    if sources.environment.get(plain).is_some_and(|value| !value.is_empty()) {
        return Err(format!("both {plain} and {variable} are set (but are exclusive)"));
    }
    let bytes =
        (sources.read_file)(Path::new(path)).map_err(|error| format!("{variable}: cannot read {path}: {error}"))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("{variable}: {path} is longer than {FILE_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{variable}: {path} is not UTF-8 text"))?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Names of properties that were said and mean nothing here.
pub fn without_effect(said: &Said) -> Vec<&str> {
    PROPERTIES
        .iter()
        .filter(|property| property.effect == Effect::None)
        .filter(|property| said.text(property.name).is_some_and(|text| text != property.default))
        .map(|property| property.name)
        .chain(said.directives.iter().map(String::as_str))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "log_level = warn\npg_user = from-file\nodd\nfuture_thing = 1\n";

    fn read(path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("a.conf") => Ok(FILE.into()),
            Some("secret") => Ok(b"hush\n".into()),
            Some("bytes") => Ok(vec![0xff]),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn gather(file: Option<&str>, environment: &[(&str, &str)]) -> (Said, Vec<String>) {
        Said::gather(&Sources {
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            file: file.map(PathBuf::from),
            prefix: None,
            read_file: &read,
        })
    }

    #[test]
    fn tidegate_wins_over_kong_over_the_file() {
        let check = |environment: &[(&str, &str)], expected| {
            assert_eq!(gather(Some("a.conf"), environment).0.text("pg_user"), expected);
        };
        check(&[], Some("from-file"));
        check(&[("KONG_PG_USER", "k")], Some("k"));
        check(&[("KONG_PG_USER", "k"), ("TIDEGATE_PG_USER", "t")], Some("t"));
        check(&[("KONG_PG_USER", "k"), ("TIDEGATE_PG_USER", "")], None);
        check(&[("KONG_PG_USER", "")], None);
    }

    #[test]
    fn a_named_file_must_exist() {
        assert_eq!(gather(Some("gone.conf"), &[]).1, ["no file at: gone.conf"]);
        assert!(gather(None, &[]).1.is_empty());
    }

    #[test]
    fn a_file_that_is_no_text_is_refused() {
        assert_eq!(gather(Some("bytes"), &[]).1.len(), 1);
    }

    #[test]
    fn secrets_come_from_files() {
        let (said, problems) = gather(None, &[("KONG_PG_PASSWORD_FILE", "secret")]);
        assert_eq!((said.text("pg_password"), problems.len()), (Some("hush"), 0));
        let (_, problems) = gather(None, &[("KONG_PG_PASSWORD_FILE", "secret"), ("KONG_PG_PASSWORD", "x")]);
        assert_eq!(problems, ["both KONG_PG_PASSWORD and KONG_PG_PASSWORD_FILE are set (but are exclusive)"]);
    }

    #[test]
    fn unknown_names_are_remembered_not_refused() {
        let (said, problems) = gather(
            Some("a.conf"),
            &[("KONG_NGINX_HTTP_UNDERSCORES_IN_HEADERS", "on"), ("KONG_SERVICE_PORT", "1"), ("KONG_WASM", "on")],
        );
        assert!(problems.is_empty());
        assert_eq!(said.unknown, ["future_thing", "service_port"]);
        assert_eq!(without_effect(&said), ["wasm", "nginx_http_underscores_in_headers"]);
        assert_eq!(said.odd_lines, [3]);
    }

    #[test]
    fn without_effect_says_nothing_about_what_we_do_anyway() {
        assert!(without_effect(&gather(None, &[("KONG_NGINX_DAEMON", "off")]).0).is_empty());
    }
}

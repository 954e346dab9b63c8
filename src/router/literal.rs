//! What every match of an anchored regex begins with, so that regexes can be indexed like prefixes.
//!
//! Asks the engine's own parser. Reading the pattern by hand lost: alternations, classes and quantifiers each hide a way
//! to be wrong, and a literal that is too long would lose matches.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;
use regex_syntax::hir::HirKind;
use regex_syntax::hir::Look;

/// The longest literal that is found at the start of every match; empty when there is none, or when the pattern may match
/// elsewhere than at the start.
pub(crate) fn leading_literal(pattern: &str) -> Vec<u8> {
    let mut literal = Vec::new();
    if let Ok(hir) = ParserBuilder::new().utf8(false).build().parse(pattern) {
        let parts: &[Hir] = match hir.kind() {
            HirKind::Concat(parts) => parts,
            _ => &[],
        };
        if let Some((start, parts)) = parts.split_first()
            && matches!(start.kind(), HirKind::Look(Look::Start))
        {
            let _ = parts.iter().all(|part| extend(&mut literal, part));
        }
    }
    literal
}

/// Appends what `part` begins with; true when that is all of it, so that what follows may be appended too.
fn extend(literal: &mut Vec<u8>, part: &Hir) -> bool {
    match part.kind() {
        HirKind::Empty => true,
        HirKind::Literal(bytes) => {
            literal.extend_from_slice(&bytes.0);
            true
        }
        HirKind::Capture(capture) => extend(literal, &capture.sub),
        HirKind::Concat(parts) => parts.iter().all(|part| extend(literal, part)),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            extend(literal, &repetition.sub);
            false
        }
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_ends_where_matches_may_differ() {
        for (pattern, expected) in [
            ("^/item/\\d+", "/item/"),
            ("^/item", "/item"),
            ("^/ab?c", "/a"),
            ("^/ab+c", "/ab"),
            ("^/a{2}b", "/a"),
            ("^/(ab)/c", "/ab/c"),
            ("^/(?<v>v1)/", "/v1/"),
            ("^/(a|b)/", "/"),
            ("^/a|/b", ""),
            ("^/a|^/ab", ""),
            ("^(?i)/a", "/"),
            ("^/(?i)ab/", "/"),
            ("^/a$", "/a"),
            ("^/a\\.b", "/a.b"),
            ("^/caf\u{e9}", "/caf\u{e9}"),
            ("^.*", ""),
            ("^(?:/a)*", ""),
            ("^(?m)/a", "/a"),
            ("^/(", ""),
        ] {
            let literal = leading_literal(pattern);
            assert_eq!(String::from_utf8_lossy(&literal), expected, "{pattern}");
        }
    }
}

//! Kong's file syntax: `name = value` per line, `#` begins a comment anywhere unless written `\#`, no quoting.

/// What a file says, in its order.
#[derive(Debug, Default, PartialEq)]
pub struct ConfFile {
    /// Later lines win over earlier ones of the same name.
    pub pairs: Vec<(String, String)>,
    /// Numbers of lines (from 1) that say nothing: no `=`, or no name.
    pub odd_lines: Vec<usize>,
}

/// Reads any text; nothing in it is fatal.
pub fn parse(text: &str) -> ConfFile {
    let mut file = ConfFile::default();
    for (number, line) in text.lines().enumerate() {
        let line = without_comment(line);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                file.pairs.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            _ => file.odd_lines.push(number + 1),
        }
    }
    file
}

fn without_comment(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('#') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let Some(before) = before.strip_suffix('\\') else {
            kept.push_str(before);
            return kept;
        };
        kept.push_str(before);
        kept.push('#');
        rest = after;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, pairs: &[(&str, &str)]) {
        let expected: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(parse(text).pairs, expected, "{text:?}");
    }

    #[test]
    fn pairs_are_trimmed_and_comments_cut() {
        check("", &[]);
        check("# all of it\n\n   \n", &[]);
        check("log_level = debug # for now", &[("log_level", "debug")]);
        check("  pg_user=me  \r\npg_port =  5433", &[("pg_user", "me"), ("pg_port", "5433")]);
        check("pg_password = a=b=c", &[("pg_password", "a=b=c")]);
    }

    #[test]
    fn an_escaped_hash_is_part_of_the_value() {
        check(r"pg_password = a\#b\#c # not this", &[("pg_password", "a#b#c")]);
        check(r"pg_password = a\b", &[("pg_password", r"a\b")]);
    }

    #[test]
    fn an_empty_value_is_said() {
        check("admin_listen =", &[("admin_listen", "")]);
    }

    #[test]
    fn lines_that_say_nothing_are_counted() {
        assert_eq!(parse("a = 1\nnonsense\n= 2\n").odd_lines, [2, 3]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".*") {
            let file = parse(&text);
            prop_assert!(file.pairs.iter().all(|(name, _)| !name.is_empty()));
        }
    }
}

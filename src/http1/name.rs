//! Header names that the gateway writes, in every form that it writes them in.

use http::HeaderName;

/// A header name in all its forms.
#[derive(Debug)]
pub struct Name {
    pub header: HeaderName,
    /// As upstreams get it.
    pub lower: &'static str,
    /// As clients of HTTP/1 get it.
    pub capitalised: &'static str,
    pub mark: u64,
}

/// The `Name` of a lower-case text, made when the program is compiled.
macro_rules! name {
    ($lower:expr) => {
        $crate::http1::name::Name {
            header: http::HeaderName::from_static($lower),
            lower: $lower,
            capitalised: {
                const TEXT: [u8; $lower.len()] = $crate::http1::name::capitalised($lower);
                match str::from_utf8(&TEXT) {
                    Ok(text) => text,
                    // A header name is ASCII: never.
                    Err(_) => $lower,
                }
            },
            mark: $crate::http1::name::mark($lower.as_bytes()),
        }
    };
}

pub(crate) use name;

/// One of 64 bits, chosen by a name's length and first letter. Names that differ mostly have different marks, so a set of
/// names is mostly told not to hold another one without a search.
pub const fn mark(name: &[u8]) -> u64 {
    let first = if name.is_empty() { 0 } else { name[0] | 0x20 };
    1 << ((name.len() + 29 * first as usize) % 64)
}

/// `x-real-ip` becomes `X-Real-Ip`.
pub const fn capitalise(name: &mut [u8]) {
    let mut at = 0;
    while at < name.len() {
        if at == 0 || name[at - 1] == b'-' {
            name[at].make_ascii_uppercase();
        }
        at += 1;
    }
}

/// The bytes of a name of `N` bytes, capitalised.
pub const fn capitalised<const N: usize>(lower: &str) -> [u8; N] {
    let (lower, mut text, mut at) = (lower.as_bytes(), [0; N], 0);
    while at < N {
        text[at] = lower[at];
        at += 1;
    }
    capitalise(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static NAMES: [Name; 3] = [name!("te"), name!("x-real-ip"), name!(concat!("x-kong", "-proxy-latency"))];

    #[test]
    fn a_name_is_the_same_in_all_its_forms() {
        let capitalised: Vec<_> = NAMES.iter().map(|name| name.capitalised).collect();
        assert_eq!(capitalised, ["Te", "X-Real-Ip", "X-Kong-Proxy-Latency"]);
        for name in &NAMES {
            assert_eq!((name.header.as_str(), name.mark), (name.lower, mark(name.capitalised.as_bytes())));
        }
    }
}

//! Finds the buckets that a host name falls into: its own, those of the wildcards over it, and that of rules without hosts.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::router::host::Name;

/// The bucket of what names no host, or has a host that cannot be looked up.
pub(crate) const ANY: u32 = 0;

/// Bucket numbers by host name.
#[derive(Debug)]
pub(crate) struct Domains {
    plain: Names,
    /// By `.example.com`.
    suffixes: Names,
    /// By `example.`.
    prefixes: Names,
    buckets: u32,
}

#[derive(Debug, Default)]
struct Names {
    /// Names of common length are kept in the table itself: one cache miss less.
    buckets: HashMap<SmallVec<[u8; 24]>, u32, foldhash::fast::RandomState>,
    /// Length in bytes of the longest name, so that a hostile host costs no more probes than a real one.
    longest: usize,
}

impl Default for Domains {
    fn default() -> Self {
        Domains { plain: Names::default(), suffixes: Names::default(), prefixes: Names::default(), buckets: ANY + 1 }
    }
}

impl Domains {
    /// The bucket of `name`, made when new. Wildcards that do not end at a dot are not looked up: they get [`ANY`].
    pub(crate) fn bucket(&mut self, name: &Name) -> u32 {
        if !name.is_indexed() {
            return ANY;
        }
        let (names, text) = match name {
            Name::Plain(text) => (&mut self.plain, text),
            Name::Suffix(text) => (&mut self.suffixes, text),
            Name::Prefix(text) => (&mut self.prefixes, text),
        };
        names.bucket(text, &mut self.buckets)
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets as usize
    }

    /// Calls `visit` with each bucket that `host` falls into.
    pub(crate) fn each(&self, host: &str, mut visit: impl FnMut(u32)) {
        if let Some(bucket) = self.plain.find(host) {
            visit(bucket);
        }
        self.suffixes_of(host).filter_map(|suffix| self.suffixes.find(suffix)).for_each(&mut visit);
        self.prefixes_of(host).filter_map(|prefix| self.prefixes.find(prefix)).for_each(&mut visit);
        visit(ANY);
    }

    fn suffixes_of<'h>(&self, host: &'h str) -> impl Iterator<Item = &'h str> {
        let from = host.len().saturating_sub(self.suffixes.longest);
        let from = host.ceil_char_boundary(from);
        dots(&host[from..]).map(move |dot| &host[from + dot..])
    }

    fn prefixes_of<'h>(&self, host: &'h str) -> impl Iterator<Item = &'h str> {
        let to = host.floor_char_boundary(self.prefixes.longest);
        dots(&host[..to]).map(move |dot| &host[..=dot])
    }
}

impl Names {
    fn bucket(&mut self, name: &str, buckets: &mut u32) -> u32 {
        if let Some(&bucket) = self.buckets.get(name.as_bytes()) {
            return bucket;
        }
        let bucket = *buckets;
        *buckets += 1;
        self.buckets.insert(SmallVec::from_slice(name.as_bytes()), bucket);
        self.longest = self.longest.max(name.len());
        bucket
    }

    fn find(&self, name: &str) -> Option<u32> {
        if self.buckets.is_empty() {
            return None;
        }
        self.buckets.get(name.as_bytes()).copied()
    }
}

fn dots(text: &str) -> impl Iterator<Item = usize> {
    text.bytes().enumerate().filter(|&(_, byte)| byte == b'.').map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_falls_into_the_buckets_of_all_names_over_it() {
        let mut domains = Domains::default();
        let names = ["a.b.test", "*.b.test", "*.test", "a.*", "a.b.*", "b.test", "*"];
        let buckets = names.map(|name| domains.bucket(&Name::parse(name)));
        assert_eq!(buckets[6], ANY);
        for (host, expected) in [
            ("a.b.test", &[0, 1, 2, 3, 4][..]),
            ("b.test", &[5, 2]),
            ("x.b.test", &[1, 2]),
            ("a.x", &[3]),
            ("é.é.é.é.é.é", &[]),
            ("", &[]),
        ] {
            let mut seen = Vec::new();
            domains.each(host, |bucket| seen.push(bucket));
            let mut expected: Vec<u32> = expected.iter().map(|&at: &usize| buckets[at]).collect();
            expected.push(ANY);
            seen.sort_unstable();
            expected.sort_unstable();
            assert_eq!(seen, expected, "{host}");
        }
    }
}

//! Finds the buckets that a host name falls into: its own, those of the wildcards over it, and that of rules without hosts.

use crate::router::bucket::Bucket;
use crate::router::host::Name;
use crate::router::prefix_hash::hash;
use crate::router::sharded::Sharded;
use crate::router::text::Text;

/// Buckets by host name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains {
    plain: Names,
    /// By `.example.com`.
    suffixes: Names,
    /// By `example.`.
    prefixes: Names,
    /// Of what names no host, or has a host that cannot be looked up.
    any: Bucket,
}

#[derive(Clone, Debug, Default)]
struct Names {
    domains: Sharded<Domain>,
    /// Length in bytes of the longest name there was, so that a hostile host costs no more probes than a real one.
    longest: usize,
}

/// Name and bucket beside each other, in one line of the cache.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Domain {
    name: Text,
    bucket: Bucket,
}

impl Domains {
    /// Lets `change` change the bucket of `name` (`None`: of rules without hosts), which is made for it and forgotten
    /// when it is left empty. Wildcards that do not end at a dot are not looked up: they share the bucket of no name.
    pub(crate) fn change<T>(&mut self, name: Option<&Name>, change: impl FnOnce(&mut Bucket) -> T) -> T {
        match name.filter(|name| name.is_indexed()) {
            None => change(&mut self.any),
            Some(Name::Plain(text)) => self.plain.change(text, change),
            Some(Name::Suffix(text)) => self.suffixes.change(text, change),
            Some(Name::Prefix(text)) => self.prefixes.change(text, change),
        }
    }

    /// Calls `visit` with each bucket that `host` falls into.
    pub(crate) fn each(&self, host: &str, mut visit: impl FnMut(&Bucket)) {
        if let Some(bucket) = self.plain.find(host) {
            visit(bucket);
        }
        self.suffixes_of(host).filter_map(|suffix| self.suffixes.find(suffix)).for_each(&mut visit);
        self.prefixes_of(host).filter_map(|prefix| self.prefixes.find(prefix)).for_each(&mut visit);
        visit(&self.any);
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
    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Bucket) -> T) -> T {
        let name = name.as_bytes();
        let hash_of = |domain: &Domain| hash(&domain.name);
        if let Some(domain) = self.domains.find_mut(hash(name), |domain| *domain.name == *name) {
            let result = change(&mut domain.bucket);
            if domain.bucket.is_empty() {
                self.domains.remove(hash(name), |domain| *domain.name == *name);
            }
            return result;
        }
        let mut domain = Domain { name: Text::of(name), bucket: Bucket::default() };
        let result = change(&mut domain.bucket);
        if !domain.bucket.is_empty() {
            self.longest = self.longest.max(name.len());
            self.domains.add(domain, hash_of);
        }
        result
    }

    fn find(&self, name: &str) -> Option<&Bucket> {
        if self.domains.is_empty() {
            return None;
        }
        let name = name.as_bytes();
        let domain = self.domains.find(hash(name), |domain| *domain.name == *name)?;
        Some(&domain.bucket)
    }
}

fn dots(text: &str) -> impl Iterator<Item = usize> {
    text.bytes().enumerate().filter(|&(_, byte)| byte == b'.').map(|(at, _)| at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::router::Rule;
    use crate::router::bucket::Content;
    use crate::router::compiled::compile;
    use crate::router::matcher::Matcher;
    use crate::router::prefix_hash::Hashes;

    #[test]
    fn a_host_falls_into_the_buckets_of_all_names_over_it() {
        let compiled = compile(&Rule { methods: vec!["GET".to_owned()], ..Rule::default() }).unwrap();
        let mut domains = Domains::default();
        let names = ["a.b.test", "*.b.test", "*.test", "a.*", "a.b.*", "b.test", "*"];
        for (slot, name) in names.iter().enumerate() {
            let name = Name::parse(name);
            domains.change(Some(&name), |bucket| bucket.add(b"", Matcher::new(&compiled, slot, 0)));
        }
        let check = |domains: &Domains, host: &str, expected: &[u32]| {
            let mut seen = Vec::new();
            domains.each(host, |bucket| {
                bucket.search(&mut Hashes::of(b"/"), b"/", 0, |content, _| {
                    let Content::One(matcher) = content else { panic!("two names share a bucket") };
                    seen.push(matcher.slot);
                    0
                });
            });
            seen.sort_unstable();
            assert_eq!(seen, expected, "{host}");
        };
        for (host, expected) in [
            ("a.b.test", &[0, 1, 2, 3, 4, 6][..]),
            ("b.test", &[2, 5, 6]),
            ("x.b.test", &[1, 2, 6]),
            ("a.x", &[3, 6]),
            ("é.é.é.é.é.é", &[6]),
            ("", &[6]),
        ] {
            check(&domains, host, expected);
        }
        domains.change(Some(&Name::parse("*.test")), |bucket| bucket.remove(b"", 2));
        check(&domains, "b.test", &[5, 6]);
    }
}

//! A list of matchers, best first: what is tried once host and path have led to a place where there are several.
//!
//! A list that grows long is parted by its most telling header value or server name, so that many routes on one host and
//! path are not tried one by one. Whatever changes in it, it is put in order anew: its cost grows with the list then.

use hashbrown::HashMap;
use hashbrown::HashTable;
use hashbrown::hash_map::Entry;

use crate::pace;
use crate::router::compiled::Compiled;
use crate::router::header;
use crate::router::host::Name;
use crate::router::matcher::Checks;
use crate::router::matcher::Matcher;
use crate::router::order::Rules;
use crate::router::order::order;
use crate::router::prefix_hash::hash;
use crate::router::rule::Query;
use crate::router::text::Text;

/// A list longer than this is parted.
const LONG: usize = 16;

type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The best first.
#[derive(Debug)]
enum Run {
    /// Mostly there is but one.
    One(Matcher),
    Several(Vec<Matcher>),
}

/// A value of a header and the matchers that want it, in one line of the cache.
#[derive(Debug)]
#[repr(align(64))]
struct Wanted {
    value: Text,
    run: Run,
}

#[derive(Debug)]
pub(crate) struct List {
    /// The best first, when settled.
    matchers: Vec<Matcher>,
    /// `None` when the list is not long.
    parted: Option<Box<Parted>>,
    settled: bool,
}

/// The matchers of a long list by what they are found by, each run of them the best first.
#[derive(Debug, Default)]
struct Parted {
    /// What cannot be looked up.
    rest: Vec<Matcher>,
    /// By name (lower case, dashes), then value.
    headers: Table<Box<str>, HashTable<Wanted>>,
    /// By server name, plain ones.
    snis: Table<Box<str>, Run>,
    /// All of `snis`: what is tried when the connection is not TLS, where server names take no part.
    no_tls: Vec<Matcher>,
}

/// What a matcher of a parted list is found by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key<'c> {
    Header(&'c str, &'c [u8]),
    Sni(&'c str),
}

/// A copy is made to be changed, and parted when it is settled.
impl Clone for List {
    fn clone(&self) -> Self {
        List { matchers: self.matchers.clone(), parted: None, settled: self.settled }
    }
}

impl List {
    pub(crate) fn of(matchers: [Matcher; 2]) -> List {
        List { matchers: matchers.into(), parted: None, settled: false }
    }

    /// True: the list is to be settled, and was not before.
    pub(crate) fn add(&mut self, matcher: Matcher) -> bool {
        self.matchers.push(matcher);
        std::mem::replace(&mut self.settled, false)
    }

    /// Takes away the matchers of a rule. True as of [`List::add`].
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        self.matchers.retain(|matcher| matcher.slot != slot);
        std::mem::replace(&mut self.settled, false)
    }

    /// The only matcher, or how many there are.
    pub(crate) fn only(&self) -> Result<Matcher, usize> {
        match self.matchers[..] {
            [only] => Ok(only),
            _ => Err(self.matchers.len()),
        }
    }

    /// The greatest there is.
    pub(crate) fn weight(&self) -> u64 {
        self.matchers.iter().map(|matcher| matcher.weight).max().unwrap_or_default()
    }

    /// Puts the list in order, and parts it when it is long.
    pub(crate) fn settle(&mut self, rules: &Rules) {
        self.matchers.sort_unstable_by(|a, b| {
            pace::step();
            order(rules, b, a)
        });
        self.matchers.dedup_by(|a, b| a.is(b));
        self.parted = (self.matchers.len() > LONG).then(|| Box::new(Parted::of(&self.matchers, rules)));
        self.settled = true;
    }

    /// Visits runs of matchers, each the best first, in which all are that may match.
    pub(crate) fn visit(&self, query: &Query<'_>, mut visit: impl FnMut(&[Matcher])) {
        let Some(parted) = &self.parted else { return visit(&self.matchers) };
        visit(&parted.rest);
        if !parted.headers.is_empty() {
            header::each_line(query.headers, |name, line| {
                let Some(values) = parted.headers.get(name) else { return };
                let wanted = |line: &[u8]| values.find(hash(line), |wanted| *wanted.value == *line);
                if let Some(wanted) = header::in_lower_case(line, wanted) {
                    visit(wanted.run.matchers());
                }
            });
        }
        match query.sni {
            Some(sni) => parted.snis.get(sni).into_iter().for_each(|run| visit(run.matchers())),
            None => visit(&parted.no_tls),
        }
    }
}

impl Parted {
    /// `matchers` are in order.
    fn of(matchers: &[Matcher], rules: &Rules) -> Parted {
        let with_rules = || {
            matchers
                .iter()
                .inspect(|_| pace::step())
                .filter_map(|matcher| Some((*matcher, &**rules.at(matcher.slot as usize)?)))
        };
        let mut counts = Table::<Key<'_>, usize>::default();
        for (_, compiled) in with_rules() {
            choices(compiled).flatten().for_each(|key| *counts.entry(key).or_default() += 1);
        }
        let mut parted = Parted::default();
        for (mut matcher, compiled) in with_rules() {
            let rarest = choices(compiled).min_by_key(|keys| keys.iter().map(|key| counts[key]).sum::<usize>());
            let Some(keys) = rarest else {
                parted.rest.push(matcher);
                continue;
            };
            if is_only_condition(compiled) {
                matcher.checks = matcher.checks.without(Checks::FIELDS);
            }
            if matches!(keys.first(), Some(Key::Sni(_))) {
                parted.no_tls.push(matcher);
            }
            keys.into_iter().for_each(|key| parted.add(key, matcher));
        }
        parted
    }

    fn add(&mut self, key: Key<'_>, matcher: Matcher) {
        match key {
            Key::Sni(sni) => match self.snis.entry(sni.into()) {
                Entry::Occupied(mut run) => run.get_mut().push(matcher),
                Entry::Vacant(place) => drop(place.insert(Run::One(matcher))),
            },
            Key::Header(name, value) => {
                let values = self.headers.entry(name.into()).or_default();
                if let Some(wanted) = values.find_mut(hash(value), |wanted| *wanted.value == *value) {
                    return wanted.run.push(matcher);
                }
                let wanted = Wanted { value: Text::of(value), run: Run::One(matcher) };
                values.insert_unique(hash(value), wanted, |wanted| hash(&wanted.value));
            }
        }
    }
}

impl Run {
    fn matchers(&self) -> &[Matcher] {
        match self {
            Run::One(matcher) => std::slice::from_ref(matcher),
            Run::Several(matchers) => matchers,
        }
    }

    fn push(&mut self, matcher: Matcher) {
        match self {
            Run::One(one) => *self = Run::Several(vec![*one, matcher]),
            Run::Several(matchers) => matchers.push(matcher),
        }
    }
}

/// Whether a matcher that is found by one of its rule's conditions meets all of those that [`Checks::FIELDS`] stands for.
fn is_only_condition(compiled: &Compiled) -> bool {
    let conditions = compiled.headers.len() + usize::from(!compiled.snis.is_empty());
    conditions == 1 && !compiled.methods.has_others()
}

/// The conditions of a rule that can be looked up, each with the keys of which the request must have one.
fn choices(compiled: &Compiled) -> impl Iterator<Item = Vec<Key<'_>>> {
    let headers = compiled.headers.iter().filter_map(|condition| {
        let texts = condition.texts()?;
        Some(texts.map(|text| Key::Header(condition.name.as_str(), text)).collect::<Vec<_>>())
    });
    let snis = compiled.snis.iter().map(|sni| match sni {
        Name::Plain(name) => Some(Key::Sni(name)),
        Name::Suffix(_) | Name::Prefix(_) => None,
    });
    headers.chain(snis.collect::<Option<Vec<_>>>()).filter(|keys| !keys.is_empty()).map(distinct)
}

fn distinct(mut keys: Vec<Key<'_>>) -> Vec<Key<'_>> {
    let mut seen = Table::<Key<'_>, ()>::default();
    keys.retain(|key| seen.insert(key.clone(), ()).is_none());
    keys
}

//! Lists of matchers, best first: what is tried once host and path have led to a place.
//!
//! A list that grows long is parted by its most telling header value or server name, so that many routes on one host and
//! path are not tried one by one.

use hashbrown::HashMap;

use crate::router::Query;
use crate::router::compiled::Compiled;
use crate::router::header;
use crate::router::host::Name;

/// A list longer than this is parted.
const LONG: usize = 16;

type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Place of a matcher in the order of trying; 0 is tried first.
pub(crate) type Rank = u32;

/// All lists of a router.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Each run of it is sorted.
    ranks: Vec<Rank>,
    lists: Vec<List>,
    parted: Vec<Parted>,
}

/// What is tried at one place.
#[derive(Debug)]
struct List {
    content: Content,
    /// The list of the next shorter prefix, or [`TOP`].
    up: u32,
    /// The best rank in this list and all above it.
    best: Rank,
}

#[derive(Debug)]
enum Content {
    /// Mostly there is but one; kept here, it costs no further look.
    One(Rank),
    Few(Run),
    Many {
        rest: Run,
        /// Position in `Shelf::parted`.
        parted: u32,
    },
}

const TOP: u32 = u32::MAX;

/// A piece of `Shelf::ranks`.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    from: u32,
    to: u32,
}

#[derive(Debug)]
struct Parted {
    /// By name (lower case, dashes), then value.
    headers: Table<Box<str>, Table<Box<[u8]>, Run>>,
    /// By server name, plain ones.
    snis: Table<Box<str>, Run>,
    /// All of `snis`: what is tried when the connection is not TLS, where server names take no part.
    no_tls: Run,
}

/// What a matcher of a parted list is found by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key<'c> {
    Header(&'c str, &'c [u8]),
    Sni(&'c str),
}

impl Shelf {
    /// Number of the list that is added next.
    pub(crate) fn next(&self) -> u32 {
        number(self.lists.len())
    }

    /// Adds a list of `ranks` (sorted), below the list `up`. `compiled` gives the rule of a rank.
    pub(crate) fn add<'c>(&mut self, ranks: &[Rank], up: Option<u32>, compiled: impl Fn(Rank) -> &'c Compiled) {
        let above = up.map_or(Rank::MAX, |up| self.lists[up as usize].best);
        let best = ranks.first().map_or(above, |&first| first.min(above));
        let content = match *ranks {
            [rank] => Content::One(rank),
            _ if ranks.len() <= LONG => Content::Few(self.run(ranks)),
            _ => {
                let (rest, parted) = self.part(ranks, compiled);
                self.parted.push(parted);
                Content::Many { rest, parted: number(self.parted.len() - 1) }
            }
        };
        self.lists.push(List { content, up: up.unwrap_or(TOP), best });
    }

    /// Visits list `at` and those above it with sorted runs of ranks, while they may hold one better than `visit` last
    /// returned.
    pub(crate) fn climb(&self, at: u32, query: &Query<'_>, mut best: Rank, mut visit: impl FnMut(&[Rank]) -> Rank) {
        let mut next = at;
        while next != TOP {
            let list = &self.lists[next as usize];
            if list.best >= best {
                return;
            }
            best = match list.content {
                Content::One(rank) => visit(&[rank]),
                Content::Few(run) => visit(self.ranks(run)),
                Content::Many { rest, parted } => {
                    visit(self.ranks(rest));
                    self.visit_parted(&self.parted[parted as usize], query, &mut visit)
                }
            };
            next = list.up;
        }
    }

    fn visit_parted(&self, parted: &Parted, query: &Query<'_>, visit: &mut impl FnMut(&[Rank]) -> Rank) -> Rank {
        if !parted.headers.is_empty() {
            header::each_line(query.headers, |name, line| {
                let Some(values) = parted.headers.get(name) else { return };
                if let Some(&run) = header::in_lower_case(line, |line| values.get(line)) {
                    visit(self.ranks(run));
                }
            });
        }
        let run = match query.sni {
            Some(sni) => parted.snis.get(sni).copied().unwrap_or_default(),
            None => parted.no_tls,
        };
        visit(self.ranks(run))
    }

    fn ranks(&self, run: Run) -> &[Rank] {
        &self.ranks[run.from as usize..run.to as usize]
    }

    fn run(&mut self, ranks: &[Rank]) -> Run {
        let from = number(self.ranks.len());
        self.ranks.extend_from_slice(ranks);
        Run { from, to: number(self.ranks.len()) }
    }

    /// The run of what cannot be parted, and the parted rest.
    fn part<'c>(&mut self, ranks: &[Rank], compiled: impl Fn(Rank) -> &'c Compiled) -> (Run, Parted) {
        let mut counts = Table::<Key<'c>, usize>::default();
        for &rank in ranks {
            choices(compiled(rank)).flatten().for_each(|key| *counts.entry(key).or_default() += 1);
        }
        let mut rest = Vec::new();
        let mut no_tls = Vec::new();
        let mut by_key = Table::<Key<'c>, Vec<Rank>>::default();
        for &rank in ranks {
            let rarest = choices(compiled(rank)).min_by_key(|keys| keys.iter().map(|key| counts[key]).sum::<usize>());
            let Some(keys) = rarest else {
                rest.push(rank);
                continue;
            };
            if matches!(keys.first(), Some(Key::Sni(_))) {
                no_tls.push(rank);
            }
            keys.into_iter().for_each(|key| by_key.entry(key).or_default().push(rank));
        }
        let mut parted = Parted { headers: Table::default(), snis: Table::default(), no_tls: self.run(&no_tls) };
        for (key, ranks) in by_key {
            let run = self.run(&ranks);
            parted.insert(key, run);
        }
        (self.run(&rest), parted)
    }
}

impl Parted {
    fn insert(&mut self, key: Key<'_>, run: Run) {
        match key {
            Key::Sni(sni) => {
                self.snis.insert(sni.into(), run);
            }
            Key::Header(name, value) => {
                self.headers.entry(name.into()).or_default().insert(value.into(), run);
            }
        }
    }
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

/// A router of 4 billion places would not fit memory.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn number(position: usize) -> u32 {
    position as u32
}

//! Finds the longest of many prefixes of a path, in as many steps as the path has branchings.
//!
//! Many tries share one arena, so that a router with one small trie per host stays compact. Hash tables per prefix length
//! lost: they cost a probe per length that occurs, and prefixes have many lengths. Binary search over the sorted
//! prefixes lost: its steps miss the cache in a large router.

/// Marks a node without a value.
const NONE: u32 = u32::MAX;
/// Labels up to this length are kept in their node.
const SHORT: usize = 8;

/// Tries over bytes whose edges hold whole labels.
#[derive(Debug, Default)]
pub(crate) struct Forest {
    nodes: Vec<Node>,
    /// First byte of each node's label, by node; the children of a node are neighbours.
    firsts: Vec<u8>,
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The label, when it fits; else its position in `Forest::labels`. A look elsewhere costs as much as a node.
    label: [u8; SHORT],
    label_len: u32,
    value: u32,
    children: u32,
    children_len: u16,
}

impl Forest {
    /// A forest of `tries` empty tries, whose roots are `0..tries`.
    pub(crate) fn new(tries: usize) -> Forest {
        let mut forest = Forest::default();
        for _ in 0..tries {
            forest.reserve(0);
        }
        forest
    }

    /// Fills an empty trie with `keys`, which are sorted and distinct. The value of a key is its position plus `base`.
    pub(crate) fn fill(&mut self, root: u32, keys: &[&[u8]], base: u32) {
        let mut pending = vec![(root, 0..keys.len(), 0)];
        while let Some((node, mut range, depth)) = pending.pop() {
            let (Some(first), Some(last)) = (keys.get(range.start), keys.get(range.end.saturating_sub(1))) else {
                continue;
            };
            let end = depth + shared_len(&first[depth..], &last[depth..]);
            self.set_label(node, &first[depth..end]);
            if first.len() == end {
                self.nodes[at(node)].value = base + index(range.start);
                range.start += 1;
            }
            self.nodes[at(node)].children = index(self.nodes.len());
            while range.start < range.end {
                let byte = keys[range.start][end];
                let same = keys[range.clone()].partition_point(|key| key[end] == byte);
                pending.push((self.reserve(byte), range.start..range.start + same, end));
                self.nodes[at(node)].children_len += 1;
                range.start += same;
            }
        }
    }

    /// The value of the longest key that `path` begins with.
    pub(crate) fn longest(&self, root: u32, path: &[u8]) -> Option<u32> {
        let mut longest = NONE;
        let mut node = root;
        let mut rest = path;
        loop {
            let here = &self.nodes[at(node)];
            match rest.strip_prefix(self.label(here)) {
                Some(below) => rest = below,
                None => break,
            }
            if here.value != NONE {
                longest = here.value;
            }
            let Some(&byte) = rest.first() else { break };
            let firsts = &self.firsts[at(here.children)..at(here.children) + usize::from(here.children_len)];
            match firsts.iter().position(|&first| first == byte) {
                Some(child) => node = here.children + index(child),
                None => break,
            }
        }
        (longest != NONE).then_some(longest)
    }

    fn reserve(&mut self, first: u8) -> u32 {
        let node = index(self.nodes.len());
        self.nodes.push(Node { label: [0; SHORT], label_len: 0, value: NONE, children: 0, children_len: 0 });
        self.firsts.push(first);
        node
    }

    fn label<'a>(&'a self, node: &'a Node) -> &'a [u8] {
        let len = at(node.label_len);
        if len <= SHORT {
            return &node.label[..len];
        }
        let [a, b, c, d, ..] = node.label;
        let from = at(u32::from_le_bytes([a, b, c, d]));
        &self.labels[from..from + len]
    }

    fn set_label(&mut self, node: u32, label: &[u8]) {
        let node = &mut self.nodes[at(node)];
        node.label_len = index(label.len());
        if label.len() <= SHORT {
            node.label[..label.len()].copy_from_slice(label);
        } else {
            node.label[..4].copy_from_slice(&index(self.labels.len()).to_le_bytes());
            self.labels.extend_from_slice(label);
        }
    }
}

fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Positions fit 32 bits: 4 GB of labels would not fit a configuration.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn index(position: usize) -> u32 {
    position as u32
}

fn at(index: u32) -> usize {
    index as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(keys: &[Vec<u8>], path: &[u8]) {
        let mut keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut forest = Forest::new(2);
        forest.fill(1, &[b"/other"], 900);
        forest.fill(0, &keys, 100);
        let expected = (0..keys.len()).filter(|&at| path.starts_with(keys[at])).max_by_key(|&at| keys[at].len());
        assert_eq!(forest.longest(0, path), expected.map(|at| 100 + index(at)), "{keys:?} {path:?}");
        assert_eq!(forest.longest(1, path), path.starts_with(b"/other").then_some(900));
    }

    #[test]
    fn the_longest_prefix_is_found() {
        let keys: Vec<Vec<u8>> =
            ["", "/", "/a", "/ab", "/abc/d", "/b"].iter().map(|key| key.as_bytes().into()).collect();
        for path in ["", "/", "/a", "/abc", "/abc/d", "/abc/dx", "/abd", "/c", "x", "/other/x"] {
            check(&keys, path.as_bytes());
        }
        check(&[], b"/");
    }

    /// Few letters and long repeats, so that keys share much.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((0..3_u8, prop_oneof![4 => Just(1), 1 => 7..20_usize]), 0..6)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, len)| vec![byte; len]).collect())
    }

    proptest! {
        #[test]
        fn any_keys_and_paths_agree_with_trying_each_key(
            keys in prop::collection::vec(key(), 0..20),
            path in key(),
        ) {
            check(&keys, &path);
        }
    }
}

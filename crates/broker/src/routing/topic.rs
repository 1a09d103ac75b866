//! The topic exchange: a trie of words with `*` (one word) and `#` (any number of words).
//!
//! A key is matched by following all states that it may be in at once, each node at most once per word. So the work is
//! bounded by words times nodes whatever the patterns are: no pattern can make it exponential.

use super::{Destination, Subject, Targets};
use crate::filter::Filter;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The trie. Node 0 is the root.
#[derive(Debug)]
pub struct Topic {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    words: FxHashMap<Box<str>, u32>,
    /// Child for `*`; 0 is none, as the root is nobody's child.
    star: u32,
    /// Child for `#`; 0 is none.
    hash: u32,
    /// This node stands for a `#`: it stays where it is for any word.
    is_hash: bool,
    targets: Targets,
}

impl Node {
    fn is_unused(&self) -> bool {
        self.targets.is_empty() && self.words.is_empty() && self.star == 0 && self.hash == 0
    }
}

impl Default for Topic {
    fn default() -> Topic {
        Topic { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Topic {
    pub(super) fn insert(&mut self, pattern: &str, filter: Option<Arc<Filter>>, to: &Destination) {
        let mut at = 0;
        for word in pattern_words(pattern) {
            at = match self.child(at, word) {
                0 => self.grow(at, word),
                child => child,
            };
        }
        self.nodes[at as usize].targets.insert(filter, to);
    }

    pub(super) fn remove(&mut self, pattern: &str, filter: Option<&Filter>, to: &Destination) {
        let mut path = vec![(0, "")];
        for word in pattern_words(pattern) {
            let child = self.child(path[path.len() - 1].0, word);
            if child == 0 {
                return;
            }
            path.push((child, word));
        }
        self.nodes[path[path.len() - 1].0 as usize].targets.remove(filter, to);
        for pair in path.windows(2).rev() {
            let ((parent, _), (node, word)) = (pair[0], pair[1]);
            if !self.nodes[node as usize].is_unused() {
                return;
            }
            self.prune(parent, node, word);
        }
    }

    pub(super) fn route(&self, key: &str, subject: &mut Subject<'_>, found: &mut dyn FnMut(&Destination)) {
        let mut now = Vec::with_capacity(8);
        self.enter(0, &mut now);
        let mut next = Vec::with_capacity(8);
        for word in words(key) {
            for &at in &now {
                let node = &self.nodes[at as usize];
                if node.is_hash {
                    self.enter(at, &mut next);
                }
                if let Some(&child) = node.words.get(word) {
                    self.enter(child, &mut next);
                }
                if node.star != 0 {
                    self.enter(node.star, &mut next);
                }
            }
            // A `#` is reached from its parent and from itself. Sorted once a word rather than searched for each state:
            // hostile patterns make for thousands of states.
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut now, &mut next);
            next.clear();
        }
        for &at in &now {
            self.nodes[at as usize].targets.each(subject, found);
        }
    }

    /// Adds a node to the states, with the `#` below it: that one may stand for no word at all.
    fn enter(&self, node: u32, states: &mut Vec<u32>) {
        states.push(node);
        match self.nodes[node as usize].hash {
            0 => {}
            hash => states.push(hash),
        }
    }

    fn child(&self, parent: u32, word: &str) -> u32 {
        let node = &self.nodes[parent as usize];
        match word {
            "*" => node.star,
            "#" => node.hash,
            word => node.words.get(word).copied().unwrap_or(0),
        }
    }

    fn grow(&mut self, parent: u32, word: &str) -> u32 {
        let node = Node { is_hash: word == "#", ..Node::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let parent = &mut self.nodes[parent as usize];
        match word {
            "*" => parent.star = id,
            "#" => parent.hash = id,
            word => drop(parent.words.insert(word.into(), id)),
        }
        id
    }

    fn prune(&mut self, parent: u32, node: u32, word: &str) {
        let parent = &mut self.nodes[parent as usize];
        match word {
            "*" => parent.star = 0,
            "#" => parent.hash = 0,
            word => drop(parent.words.remove(word)),
        }
        self.nodes[node as usize] = Node::default();
        self.free.push(node);
    }
}

/// The words of a routing key. An empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    let skip = if key.is_empty() { 1 } else { 0 };
    key.split('.').skip(skip)
}

/// The words of a pattern; `#.#` says no more than `#` and is read as that.
fn pattern_words(pattern: &str) -> impl Iterator<Item = &str> {
    let mut last_was_hash = false;
    words(pattern).filter(move |word| {
        let again = last_was_hash && *word == "#";
        last_was_hash = *word == "#";
        !again
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::properties::Properties;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn queue(name: &str) -> Destination {
        Destination::Queue(name.into())
    }

    fn matching(topic: &Topic, key: &str) -> BTreeSet<Destination> {
        let mut found = BTreeSet::new();
        topic.route(key, &mut Subject::new(&Properties::EMPTY), &mut |to| {
            found.insert(to.clone());
        });
        found
    }

    fn check(patterns: &[&str], key: &str, expected: &[&str]) {
        let mut topic = Topic::default();
        for pattern in patterns {
            topic.insert(pattern, None, &queue(pattern));
        }
        assert_eq!(matching(&topic, key), expected.iter().map(|p| queue(p)).collect(), "{patterns:?} on {key:?}");
        for pattern in patterns {
            topic.remove(pattern, None, &queue(pattern));
        }
        assert_eq!(topic.nodes.len() - topic.free.len(), 1, "all nodes but the root are free again");
    }

    #[test]
    fn patterns() {
        let all = ["#", "*", "a", "a.*", "a.#", "a.*.c", "#.c", "*.b.*", "a.#.c", "", "#.*", "*.#"];
        check(&all, "a", &["#", "*", "a", "a.#", "#.*", "*.#"]);
        check(&all, "", &["#", ""]);
        check(&all, "a.b", &["#", "a.*", "a.#", "#.*", "*.#"]);
        check(&all, "a.b.c", &["#", "a.#", "a.*.c", "#.c", "*.b.*", "a.#.c", "#.*", "*.#"]);
        check(&all, "a.c", &["#", "a.*", "a.#", "#.c", "a.#.c", "#.*", "*.#"]);
        check(&["a..b", "*.*", "."], "a..b", &["a..b"]);
        check(&["*.*", "."], ".", &["*.*", "."]);
        check(&["#.#.#"], "x.y", &["#.#.#"]);
    }

    #[test]
    fn hostile_patterns_stay_cheap() {
        let mut topic = Topic::default();
        let pattern = "#.a.".repeat(60) + "#";
        topic.insert(&pattern, None, &queue("q"));
        // Exponential in a backtracking matcher; bounded by 128 words times 122 nodes here.
        assert_eq!(matching(&topic, &("a.".repeat(120) + "b")).len(), 1);
        assert_eq!(matching(&topic, &("a.".repeat(50) + "b")).len(), 0);
    }

    /// Every pattern of `*` and `#` is a state of its own that a key may be in: thousands at once.
    #[test]
    fn many_states_at_once_stay_cheap() {
        let (mut topic, mut patterns) = (Topic::default(), vec!["*".to_string(), "#".to_string()]);
        while patterns.len() < 8000 {
            let longer = patterns.iter().flat_map(|pattern| [format!("{pattern}.*"), format!("{pattern}.#")]);
            patterns = longer.filter(|pattern| !pattern.ends_with("#.#")).collect();
        }
        let to = queue("q");
        patterns.iter().for_each(|pattern| topic.insert(pattern, None, &to));
        // Quadratic in the states this took minutes.
        assert_eq!(matching(&topic, &("a.".repeat(126) + "a")).len(), 1);
    }

    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => naive(rest, key) || !key.is_empty() && naive(pattern, &key[1..]),
            (Some((word, rest)), Some((head, tail))) => (*word == "*" || word == head) && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(patterns in proptest::collection::vec("[ab*#](\\.[ab*#]){0,4}", 1..8),
                                      key in "[ab](\\.[ab]){0,5}") {
            let mut topic = Topic::default();
            for pattern in &patterns {
                topic.insert(pattern, None, &queue(pattern));
            }
            let key_words: Vec<_> = key.split('.').collect();
            let expected: BTreeSet<_> = patterns
                .iter()
                .filter(|p| naive(&p.split('.').collect::<Vec<_>>(), &key_words))
                .map(|p| queue(p))
                .collect();
            prop_assert_eq!(matching(&topic, &key), expected);
        }
    }
}

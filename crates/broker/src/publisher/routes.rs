//! Routes that a publisher has looked up, so that it does so once for each exchange and key, or once for each set of
//! answers of the filters on the way.

use super::Route;
use crate::filter::Filter;
use leveret_wire::properties::Properties;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Routes that are kept, each counted with its queues and with the filters on its way. Ten thousand keys in use fit;
/// beyond it all are forgotten.
const MOST: usize = 32 * 1024;

/// Ways on which more filters are asked are not kept: each message with other answers has its own, most likely.
const FILTERS_MAX: usize = 64;

/// Routes of messages by their exchange and key, see [`crate::message::encode_route`]. They hold for one generation of
/// the topology.
#[derive(Debug, Default)]
pub(super) struct Routes {
    ways: FxHashMap<Box<[u8]>, Way>,
    weight: usize,
}

/// What is known of an exchange and key.
#[derive(Debug, Default)]
enum Way {
    #[default]
    Unknown,
    Leads(Arc<Route>),
    /// A filter decides: ways of messages for which it does not hold, and of those for which it does.
    Asks(Arc<Filter>, Box<[Way; 2]>),
}

/// A route that is known.
pub(super) struct Known<'a> {
    pub(super) route: &'a Arc<Route>,
    /// It may be another one for other messages with the same exchange and key.
    pub(super) filtered: bool,
}

impl Routes {
    /// The route of a message with these properties. That its headers may name more keys is not looked at.
    #[inline]
    pub(super) fn get(&self, key: &[u8], properties: &Properties<'_>) -> Option<Known<'_>> {
        let (mut way, mut filtered) = (self.ways.get(key)?, false);
        loop {
            way = match way {
                Way::Unknown => return None,
                Way::Leads(route) => return Some(Known { route, filtered }),
                Way::Asks(filter, ways) => &ways[usize::from(filter.matches(properties))],
            };
            filtered = true;
        }
    }

    /// Keeps the route of messages that these filters answer so.
    pub(super) fn insert(&mut self, key: &[u8], answers: Vec<(Arc<Filter>, bool)>, route: Arc<Route>) {
        if answers.len() > FILTERS_MAX {
            return;
        }
        let weight = 1 + answers.len() + route.queues.len();
        if self.weight + weight > MOST {
            *self = Routes::default();
        }
        self.weight += weight;
        let mut way = self.ways.entry(key.into()).or_default();
        for (filter, answer) in answers {
            if !matches!(way, Way::Asks(known, _) if Arc::ptr_eq(known, &filter)) {
                *way = Way::Asks(filter, Box::default());
            }
            let Way::Asks(_, ways) = way else { unreachable!("it was made so") };
            way = &mut ways[usize::from(answer)];
        }
        *way = Way::Leads(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::table::FieldTable;
    use proptest::prelude::*;

    const KEY: &[u8] = b"key";

    fn route() -> Arc<Route> {
        Arc::new(Route::new(Box::new([])))
    }

    /// One for each header `h0`, `h1` and so on.
    fn filters(count: usize) -> Vec<Arc<Filter>> {
        let parse = |number| Filter::parse(&format!("attributes:h{number}")).expect("a filter");
        (0..count).map(|number| Arc::new(parse(number))).collect()
    }

    fn with_headers<T>(bits: u32, then: impl FnOnce(&Properties<'_>) -> T) -> T {
        let names = (0..8).filter(|bit| bits >> bit & 1 != 0).map(|bit| format!("h{bit}"));
        let headers = names.fold(FieldTable::new(), |headers, name| headers.with(&name, true));
        then(&Properties { headers: Some(headers.as_table()), ..Properties::EMPTY })
    }

    proptest! {
        /// The filter that is asked next depends on the answers before it, as bindings between exchanges have it.
        #[test]
        fn a_route_is_that_of_messages_with_the_same_answers(messages in prop::collection::vec(0..64u32, 1..80)) {
            let (filters, mut routes, mut model) = (filters(6), Routes::default(), FxHashMap::default());
            for bits in messages {
                let mut answers = vec![(filters[0].clone(), bits & 1 != 0)];
                let next = if bits & 1 != 0 { 1..3 } else { 3..6 };
                answers.extend(next.map(|number| (filters[number].clone(), bits >> number & 1 != 0)));
                let kept: Vec<bool> = answers.iter().map(|(_, answer)| *answer).collect();
                with_headers(bits, |properties| {
                    let found = routes.get(KEY, properties).map(|known| Arc::as_ptr(known.route));
                    prop_assert_eq!(found, model.get(&kept).map(Arc::as_ptr));
                    Ok(())
                })?;
                let new = model.entry(kept).or_insert_with(route).clone();
                routes.insert(KEY, answers, new);
            }
        }
    }

    #[test]
    fn a_route_without_filters_is_that_of_all_messages() {
        let mut routes = Routes::default();
        routes.insert(KEY, Vec::new(), route());
        with_headers(3, |properties| {
            assert!(routes.get(KEY, properties).is_some_and(|known| !known.filtered));
            assert!(routes.get(b"other", properties).is_none());
        });
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut routes, filters) = (Routes::default(), filters(FILTERS_MAX + 1));
        let answers = |count: usize| filters[..count].iter().map(|filter| (filter.clone(), false)).collect();
        routes.insert(KEY, answers(FILTERS_MAX + 1), route());
        assert!(routes.ways.is_empty());
        for number in 0..MOST as u32 {
            routes.insert(&number.to_le_bytes(), answers(FILTERS_MAX), route());
            assert!(routes.weight <= MOST && routes.ways.len() * FILTERS_MAX <= MOST);
        }
    }
}

//! What bindings with the same key lead to, and their filters.

use super::Destination;
use crate::filter::Filter;
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The filters of a virtual host's bindings, each with the number of those: one for all bindings with the same condition,
/// so that a message is asked once.
#[derive(Debug, Default)]
pub struct Filters(FxHashMap<Arc<Filter>, u32>);

/// A message on its way through exchanges, and which filters it has met.
#[derive(Debug)]
pub struct Subject<'a> {
    properties: &'a Properties<'a>,
    /// What each filter that was asked has said, in their order, and by their addresses.
    answers: Vec<(Arc<Filter>, bool)>,
    asked: FxHashMap<*const Filter, bool>,
}

/// Destinations, each with the number of bindings that lead there.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    all: Counted,
    /// Those for some messages only. Most exchanges have none.
    filtered: Option<Box<FxHashMap<Arc<Filter>, Counted>>>,
}

type Counted = FxHashMap<Destination, u32>;

impl Filters {
    /// The filter in a binding's arguments, compiled.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(arguments: Table<'_>) -> Result<Option<Filter>, String> {
        Filter::from_arguments(arguments)
    }

    /// A binding more has this filter. Gives the one that stands for all that are equal.
    pub fn shared(&mut self, filter: Filter) -> Arc<Filter> {
        let filter = self.0.get_key_value(&filter).map(|(known, _)| known.clone()).unwrap_or_else(|| Arc::new(filter));
        *self.0.entry(filter.clone()).or_insert(0) += 1;
        filter
    }

    /// A binding less has it.
    pub fn release(&mut self, filter: &Filter) {
        let Some(bindings) = self.0.get_mut(filter) else { return };
        *bindings -= 1;
        if *bindings == 0 {
            self.0.remove(filter);
        }
    }
}

impl<'a> Subject<'a> {
    /// A message with these properties.
    pub fn new(properties: &'a Properties<'a>) -> Subject<'a> {
        Subject { properties, answers: Vec::new(), asked: FxHashMap::default() }
    }

    /// The filters that were asked, and what each said. While bindings stay as they are, the first one asked is the same
    /// for all messages with an exchange and key, and each next one the same for all that were answered alike.
    pub fn into_answers(self) -> Vec<(Arc<Filter>, bool)> {
        self.answers
    }

    pub(super) fn headers(&self) -> Table<'a> {
        self.properties.headers.unwrap_or_default()
    }

    fn meets(&mut self, filter: &Arc<Filter>) -> bool {
        let (properties, answers) = (self.properties, &mut self.answers);
        *self.asked.entry(Arc::as_ptr(filter)).or_insert_with(|| {
            let answer = filter.matches(properties);
            answers.push((filter.clone(), answer));
            answer
        })
    }
}

impl Targets {
    pub(super) fn insert(&mut self, filter: Option<Arc<Filter>>, to: &Destination) {
        let counted = match filter {
            None => &mut self.all,
            Some(filter) => self.filtered.get_or_insert_default().entry(filter).or_default(),
        };
        *counted.entry(to.clone()).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, filter: Option<&Filter>, to: &Destination) {
        let Some(filter) = filter else { return remove_one(&mut self.all, to) };
        let Some(filtered) = &mut self.filtered else { return };
        if let Some(counted) = filtered.get_mut(filter) {
            remove_one(counted, to);
            if counted.is_empty() {
                filtered.remove(filter);
            }
        }
        if filtered.is_empty() {
            self.filtered = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.filtered.is_none()
    }

    pub(super) fn each(&self, subject: &mut Subject<'_>, found: &mut dyn FnMut(&Destination)) {
        self.all.keys().for_each(&mut *found);
        let Some(filtered) = &self.filtered else { return };
        for (filter, counted) in &**filtered {
            if subject.meets(filter) {
                counted.keys().for_each(&mut *found);
            }
        }
    }
}

fn remove_one(counted: &mut Counted, to: &Destination) {
    if let Some(count) = counted.get_mut(to) {
        *count -= 1;
        if *count == 0 {
            counted.remove(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::topology::{ExchangeDeclare, QueueRecord, Topology};
    use leveret_wire::table::FieldTable;

    /// Which of these tests are asked shows in what a route depends on, and what is kept in how many filters there are.
    struct Bench(Topology<&'static str>);

    impl Bench {
        fn new() -> Bench {
            let mut topology = Topology::new("/", Limits::default());
            for name in ["q", "r"] {
                let (durable, auto_delete, arguments) = (false, false, FieldTable::new());
                let record = QueueRecord {
                    name: name.into(),
                    id: 0,
                    durable,
                    auto_delete,
                    owner: None,
                    arguments,
                    applied: Default::default(),
                    handle: name,
                };
                topology.insert_queue(record).expect("a new queue");
            }
            Bench(topology)
        }

        fn bind(&mut self, source: &str, queue: &str, key: &str, filter: &str) {
            let arguments = FieldTable::new().with("x-filter", filter);
            self.0.bind(source, Destination::Queue(queue.into()), key, arguments.as_table()).expect("a filter");
        }

        fn unbind(&mut self, source: &str, queue: &str, key: &str, filter: &str) {
            let arguments = FieldTable::new().with("x-filter", filter);
            self.0.unbind(source, Destination::Queue(queue.into()), key, arguments.as_table()).expect("both ends");
        }

        fn depends_on_the_message(&self, exchange: &str, key: &str) -> bool {
            !self.0.route(exchange, &[key], &Properties::EMPTY).expect("an exchange").answers.is_empty()
        }
    }

    #[test]
    fn only_keys_with_filters_depend_on_the_message() {
        let mut bench = Bench::new();
        bench.bind("amq.direct", "q", "a", "attributes:x");
        bench.0.bind("amq.direct", Destination::Queue("q".into()), "b", Table::EMPTY).expect("both ends");
        assert!(bench.depends_on_the_message("amq.direct", "a"));
        assert!(!bench.depends_on_the_message("amq.direct", "b"));
        assert!(!bench.depends_on_the_message("amq.topic", "a"));
        bench.unbind("amq.direct", "q", "a", "attributes:x");
        assert!(!bench.depends_on_the_message("amq.direct", "a"));
    }

    #[test]
    fn equal_filters_are_one_and_are_gone_with_their_last_binding() {
        let mut bench = Bench::new();
        let filters = |bench: &Bench| bench.0.filters().0.len();
        let (filter, same) = ("attributes:x", "( attributes : x )");
        bench.bind("amq.direct", "q", "a", filter);
        bench.bind("amq.topic", "r", "#", same);
        bench.bind("amq.fanout", "r", "", "attributes:y");
        let declare = ExchangeDeclare {
            name: "e",
            kind: "fanout",
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::EMPTY,
        };
        bench.0.declare_exchange(declare).expect("a new exchange");
        bench.bind("e", "q", "", "attributes:z");
        assert_eq!(filters(&bench), 3);
        bench.unbind("amq.direct", "q", "a", same);
        bench.unbind("amq.direct", "q", "b", filter);
        assert_eq!(filters(&bench), 3, "no such binding");
        bench.unbind("amq.direct", "q", "a", filter);
        assert_eq!(filters(&bench), 3, "the topic exchange has it, too");
        bench.0.remove_queue("r");
        assert_eq!(filters(&bench), 1);
        bench.0.delete_exchange("e", false).expect("it is there");
        assert_eq!(filters(&bench), 0);
    }
}

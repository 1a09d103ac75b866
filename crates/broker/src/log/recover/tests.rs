//! Times across restarts.

use super::*;
use crate::log::Beside;
use crate::log::index::tests::Memory;
use crate::log::record::Target;
use crate::times::testing::time;
use crate::times::{Time, What};

fn open(disk: &Arc<Memory>) -> Store {
    let storage = Storage { segment_size: 256 * 1024, ..Storage::new(disk.clone()) };
    let Recovered { store, unnamed, .. } = recover(&storage, 7, &Account::default()).expect("nothing is damaged");
    assert!(!unnamed);
    store
}

fn all(store: &Store) -> Vec<Time> {
    let mut taken = Vec::new();
    while store.times.take_due(u64::MAX, 10, &mut taken).expect("readable") {}
    taken
}

#[test]
fn times_in_the_log_are_there_after_a_restart() {
    let disk = Arc::new(Memory::default());
    let (target, wake) = (Target { queue: 3, position: 5 }, Time { what: What::Wake, ..time(70, 3, 9) });
    {
        let store = open(&disk);
        let body = [0; 40];
        let times = [time(50, 3, 5), time(60, 3, 6)];
        store.log.enqueue_with(2, &body, store.log.id.crc(&body), &[target], Beside { times: &times, seen: &[] });
        store.log.times(&[wake]);
        let block = Arc::new(Block::from_disk(vec![0; 300_000], 1, &Account::default()));
        let enqueue = Part::Enqueue { block, targets: vec![target], place: Arc::default() };
        let parts = vec![enqueue, Part::Times(vec![time(80, 4, 0)])];
        let (ticket, mailbox): (Arc<Ticket>, Arc<Mailbox>) = Default::default();
        store.log.unit(Unit { parts, then: None, ticket: ticket.clone(), mailbox });
        while store.log.write(true) == Round::Wrote {}
        assert!(ticket.lsn().is_some());
    }
    let expected = vec![time(50, 3, 5), time(60, 3, 6), wake, time(80, 4, 0)];
    for _ in 0..3 {
        let store = open(&disk);
        assert!(!store.times.take_damaged());
        assert_eq!(all(&store), expected);
    }
}

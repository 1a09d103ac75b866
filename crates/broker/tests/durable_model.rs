//! Random operations on durable queues, with restarts and killed processes in between, compared with a model too simple to
//! be wrong: queues are lists, and a start finds the list as it was when the log was last written.

#[path = "damage/disk.rs"]
mod disk;
#[path = "durable_model/life.rs"]
mod life;
#[path = "durable_model/state.rs"]
mod state;
#[path = "durable_model/world.rs"]
mod world;

use crate::life::{CONFIRM, PLAIN, QUEUES, ROUTES, TRANSACTION};
use crate::world::{Step, World};
use leveret_broker::Settle;
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    let (queue, pick) = (0..QUEUES.len(), any::<usize>());
    let sender = prop_oneof![1 => Just(PLAIN), 4 => Just(CONFIRM), 3 => Just(TRANSACTION)];
    let taker = prop_oneof![3 => Just(PLAIN), 2 => Just(TRANSACTION)];
    let how = prop_oneof![4 => Just(Settle::Ack), 1 => Just(Settle::Reject), 3 => Just(Settle::Requeue)];
    let count = prop_oneof![8 => 1..5u32, 1 => 20..60u32];
    let size = prop_oneof![12 => 8..200usize, 3 => Just(3000), 2 => Just(20_000)];
    // In pieces, in pieces over several rounds, and so much that memory is freed of what is on disk.
    let large = prop_oneof![12 => Just((1, 140_000)), 4 => Just((1, 540_000)), 2 => Just((250, 20_000))];
    prop_oneof![
        20 => (sender.clone(), 0..ROUTES.len(), count, size, prop::bool::weighted(0.8)).prop_map(
            |(channel, route, count, size, persistent)| Step::Publish { channel, route, count, size, persistent }),
        1 => (sender, 0..ROUTES.len(), large, prop::bool::weighted(0.8)).prop_map(
            |(channel, route, (count, size), persistent)| Step::Publish { channel, route, count, size, persistent }),
        16 => (taker.clone(), queue.clone(), prop::bool::weighted(0.1))
            .prop_map(|(channel, queue, no_ack)| Step::Get { channel, queue, no_ack }),
        2 => (queue.clone(), 0..5u16).prop_map(|(queue, prefetch)| Step::Consume { queue, prefetch }),
        1 => queue.clone().prop_map(|queue| Step::Cancel { queue }),
        4 => prop_oneof![Just(1usize), Just(1000), Just(1 << 16)].prop_map(|max_bytes| Step::Pull { max_bytes }),
        16 => (taker, pick, prop::bool::weighted(0.25), how)
            .prop_map(|(channel, pick, multiple, how)| Step::Settle { channel, pick, multiple, how }),
        4 => (queue.clone(), 1..40usize).prop_map(|(queue, page)| Step::Browse { queue, page }),
        1 => queue.prop_map(|queue| Step::Purge { queue }),
        5 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Reconnect),
        8 => prop::bool::weighted(0.3).prop_map(|all| Step::Write { all }),
        6 => prop_oneof![4 => 1..4usize, 1 => Just(130)].prop_map(|times| Step::Tend { times }),
        3 => (prop_oneof![2 => Just(0usize), 1 => 1..4usize], prop_oneof![1 => 0..12i64, 1 => 0..100i64])
            .prop_map(|(again, writes)| Step::Crash { again, writes }),
        1 => (prop_oneof![Just(CONFIRM), Just(TRANSACTION)], 0..ROUTES.len())
            .prop_map(|(channel, route)| Step::CutOff { channel, route }),
        1 => (0..QUEUES.len() - 1, 20..60u32, 3..12u32)
            .prop_map(|(queue, rounds, every)| Step::Churn { queue, rounds, every }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn durable_queues_behave_as_the_model_also_across_restarts(steps in proptest::collection::vec(step(), 1..80)) {
        check(&steps);
    }
}

fn check(steps: &[Step]) {
    let mut world = World::new();
    steps.iter().for_each(|step| world.step(step));
    world.end();
}

#[test]
fn a_return_that_a_checkpoint_has_counted_is_not_counted_again_when_a_start_writes_it_again() {
    check(&[
        Step::Publish { channel: PLAIN, route: 0, count: 1, size: 8, persistent: true },
        // The first checkpoint; the next one comes when there is something new and nothing else to be done.
        Step::Tend { times: 20 },
        Step::Get { channel: PLAIN, queue: 0, no_ack: false },
        Step::Settle { channel: PLAIN, pick: 0, multiple: false, how: Settle::Requeue },
        Step::Tend { times: 130 },
        Step::Crash { again: 0, writes: 0 },
    ]);
    check(&[
        Step::Publish { channel: PLAIN, route: 0, count: 1, size: 8, persistent: true },
        Step::Get { channel: PLAIN, queue: 0, no_ack: false },
        Step::Settle { channel: PLAIN, pick: 0, multiple: false, how: Settle::Requeue },
        Step::Tend { times: 1 },
        Step::Crash { again: 2, writes: 1000 },
    ]);
}

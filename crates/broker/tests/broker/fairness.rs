//! Consumers that want the same get the same, within 10 %.

use crate::client::Client;
use crate::script::broker;
use leveret_broker::{Limits, Settle};

/// What one pull may bring: less than a turn, as when a socket is slow.
const PULL: usize = 2000;

/// A publisher and consumers on one queue.
struct World {
    publisher: Client,
    consumers: Vec<Client>,
    got: Vec<u64>,
    published: u64,
}

impl World {
    fn new(consumers: &[(u16, bool)]) -> World {
        let broker = broker(Limits::default());
        let mut publisher = Client::new(&broker);
        publisher.declare("q");
        let mut world = World { publisher, consumers: Vec::new(), got: Vec::new(), published: 0 };
        for _ in consumers {
            world.consumers.push(Client::new(&broker));
            world.got.push(0);
        }
        for (client, (prefetch, no_ack)) in world.consumers.iter_mut().zip(consumers) {
            if *prefetch < u16::MAX {
                client.consume("q", *prefetch, *no_ack);
            }
        }
        world
    }

    fn publish(&mut self, count: u64) {
        self.publisher.publish("q", self.published..self.published + count);
        self.published += count;
    }

    /// Consumer `i` pulls once and acks what it got.
    fn pull(&mut self, i: usize) {
        let client = &mut self.consumers[i];
        let received = client.pull(PULL);
        self.got[i] += received.len() as u64;
        if let (Some(last), true) = (received.last(), client.channel.unacked() > 0) {
            client.settle(last.tag, true, Settle::Ack);
        }
    }

    #[track_caller]
    fn check_equal(&self) {
        let (least, most) = (self.got.iter().min().expect("a consumer"), self.got.iter().max().expect("a consumer"));
        assert!(most * 10 <= least * 11, "shares differ by more than 10 %: {:?}", self.got);
    }
}

#[test]
fn equal_credit_is_equal_shares_while_all_pull() {
    for kinds in [[(0, true); 2], [(100, false); 2], [(1, false); 2], [(1000, false); 2]] {
        for batch in [1, 7, 100, 3000] {
            let mut world = World::new(&kinds);
            while world.published < 60_000 {
                world.publish(batch);
                world.pull(0);
                world.pull(1);
            }
            world.check_equal();
        }
    }
}

#[test]
fn the_order_of_pulls_makes_no_difference() {
    for consumers in [2, 3, 10] {
        let mut world = World::new(&vec![(0, true); consumers]);
        for round in 0..2000 {
            world.publish(100);
            for i in 0..consumers {
                world.pull((i * (1 + round % 3)) % consumers);
            }
        }
        // Nobody pulls more often than it is told to; those that came later in a round are still owed their grant.
        for _ in 0..1000 {
            (0..consumers).for_each(|i| world.pull(i));
        }
        world.check_equal();
        assert_eq!(world.got.iter().sum::<u64>(), world.published);
    }
}

#[test]
fn a_backlog_is_shared() {
    let mut world = World::new(&[(0, true), (0, true)]);
    world.publish(100_000);
    while world.got.iter().sum::<u64>() < 50_000 {
        // The first one is greedy: it pulls ten times for each time that the second does.
        (0..10).for_each(|_| world.pull(0));
        world.pull(1);
    }
    let [greedy, slow] = world.got[..] else { unreachable!("two consumers") };
    assert!(greedy <= slow + 6 * 512, "a consumer may be a few turns ahead, no more: {:?}", world.got);
}

/// One that cannot take anything pauses. The other is not held up, and later they share again.
#[test]
fn a_paused_consumer_holds_nobody_up_and_does_not_catch_up() {
    let mut world = World::new(&[(0, true), (0, true)]);
    world.publish(1000);
    world.consumers[1].listen();
    assert!(world.consumers[1].channel.pause(0));
    for _ in 0..500 {
        world.publish(100);
        world.pull(0);
        world.pull(0);
    }
    while world.got[0] < world.published {
        let before = world.got[0];
        world.pull(0);
        assert!(world.got[0] > before, "held up after {before}");
    }
    world.consumers[1].channel.resume(0);
    world.got = vec![0, 0];
    for _ in 0..500 {
        world.publish(100);
        world.pull(0);
        world.pull(1);
    }
    world.check_equal();
}

/// A consumer that has had thousands is not made to wait until a new one has had as many.
#[test]
fn who_came_early_shares_with_who_came_late() {
    for (prefetch, no_ack) in [(1, false), (50, false), (50, true)] {
        let mut world = World::new(&[(prefetch, false), (u16::MAX, false)]);
        for _ in 0..5000 {
            world.publish(u64::from(prefetch));
            world.pull(0);
        }
        // The early one is at its limit, and so wants nothing, when the late one comes.
        world.publish(u64::from(prefetch));
        let held = world.consumers[0].pull(1 << 20);
        world.consumers[1].consume("q", prefetch, no_ack);
        world.consumers[0].settle(held[held.len() - 1].tag, true, Settle::Ack);
        world.got = vec![0, 0];
        for _ in 0..1000 {
            world.publish(u64::from(prefetch));
            world.pull(0);
            world.pull(1);
        }
        world.check_equal();
    }
}

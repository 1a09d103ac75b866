//! What is done to fill the golden directory: everything that leaves another trace in the files.

use crate::bench::{Bench, Sent};
use crate::contents::{Contents, declare};
use crate::disk::Image;
use leveret_broker::Settle;

/// What is declared, and stays.
const DECLARED: &str = "\
exchange / orders topic
exchange / audit fanout internal
exchange / parts headers auto-delete
exchange / noted direct note=kept
exchange / first topic x-message-deduplication=true
queue / plain
queue / gaps
queue / returned
queue / fan-1
queue / fan-2
queue / fan-3
queue / large
queue / filled
queue / fresh
queue / purged
queue / brief x-message-ttl=36000000
queue / retried x-delayed-retry-min=3600000
queue / once x-message-deduplication=true x-cache-size=100
queue / of-first
queue / numbered
queue / letters auto-delete x-dead-letter-exchange=audit x-dead-letter-routing-key=dead
bind / orders # exchange audit
bind / orders orders.*.eu queue plain
bind / audit - queue letters
bind / parts - queue gaps x-match=all colour=red size=xl
bind / amq.fanout - queue fan-1
bind / amq.fanout - queue fan-2
bind / amq.fanout - queue fan-3
bind / first # queue of-first
bind / amq.direct heavy queue large
bind / amq.direct heavy queue fan-3
exchange tenant orders fanout
queue tenant plain
bind tenant orders - queue tenant-2
queue tenant tenant-2
entry / user alice administrator
entry / user bob none
entry tenant limits:tenant queues 10";

/// What is declared when all else is done, and in no checkpoint.
const DECLARED_LATE: &str = "\
exchange late orders fanout
queue late plain
bind late orders - queue plain
entry late user dora monitoring
entry late limits:late queues 5";

/// What is declared, and deleted again.
const TEMPORARY: &str = "\
exchange / over direct
queue / over
bind / over - queue over
bind / over - queue plain
bind / amq.fanout - queue plain
exchange brief orders fanout
queue brief plain
bind brief orders - queue plain
entry brief limits:brief queues 1
entry / user carol none";

/// What follows.
const PROMISED: &str = "\
route / orders orders.new.eu to plain letters
route / orders orders.new.us to letters
route / parts - colour=red size=xl to gaps
route / parts - colour=red size=s to
route / amq.fanout - to fan-1 fan-2 fan-3
route / amq.direct heavy to large fan-3
route / - fresh to fresh
route tenant orders - to tenant-2
route tenant - plain to plain
route late orders - to plain
again / - once 722 to
again / - once 729 to
again / - once 730 to once
again / first any 741 to
again / first any 749 to
again / first any 722 to of-first
again / - numbered 900 to
again / - numbered 909 to
again / - numbered 910 to numbered
absent / exchange over
absent / queue over
absent tenant queue gaps
absent / entry user carol
absent / entry limits:brief queues
absent / vhost brief
expires / brief 36000000 8";

const FIRST: Sent = Sent { exchange: "first", key: "k", to: &["of-first"] };

const FAN: Sent = Sent { exchange: "amq.fanout", key: "", to: &["fan-1", "fan-2", "fan-3"] };

const fn direct<'a>(to: &'a [&'a str; 1]) -> Sent<'a> {
    Sent { exchange: "", key: to[0], to }
}

/// Runs the script. What is on the disk in the end, and what a start is to find there.
pub fn run() -> (Image, Contents) {
    let mut bench = Bench::open(&Image::new());
    DECLARED.lines().filter(|line| !line.starts_with("bind ")).for_each(|line| declare(&mut bench, line));
    DECLARED.lines().filter(|line| line.starts_with("bind ")).for_each(|line| declare(&mut bench, line));
    fill(&mut bench);
    let mut bench = bench.restart(false);
    change(&mut bench);
    let mut bench = bench.restart(true);
    hesitate(&mut bench);
    let mut bench = bench.restart(false);
    let image = end(&mut bench);
    let topology = [DECLARED, DECLARED_LATE, PROMISED].into_iter().flat_map(str::lines).map(str::to_string).collect();
    (image, Contents { topology, queues: bench.contents(), ..Contents::default() })
}

/// Segments that are adopted, and files that are merged: of one queue nearly all is acked, of one every second message, of
/// the others little.
fn fill(bench: &mut Bench) {
    for round in 0..6 {
        let first = 1000 * (round + 1);
        for turn in 0..6 {
            let at = first + 10 * turn;
            bench.publish("/", direct(&["plain"]), true, at..at + 4);
            bench.publish("/", direct(&["gaps"]), true, at + 4..at + 8);
            bench.publish("/", FAN, true, at + 8..at + 10);
            bench.broker.write_log();
            bench.broker.tend();
        }
        for (queue, every) in [("plain", 12), ("gaps", 2), ("fan-2", 3)] {
            let numbers = |of: u32| -> Vec<u32> {
                let offsets = match queue {
                    "plain" => 0..4,
                    "gaps" => 4..8,
                    _ => 8..10,
                };
                (0..6).flat_map(|turn| offsets.clone().map(move |offset| of + 10 * turn + offset)).collect()
            };
            let numbers = numbers(first);
            bench.take("/", queue, numbers.len());
            let acked = numbers.iter().enumerate().filter(|(index, _)| index % every != 0).map(|(_, number)| *number);
            bench.settle("/", queue, acked, Settle::Ack);
        }
        if round < 5 {
            bench.tend();
        }
    }
    // A message in none of the queues that were handed out from.
    bench.publish("/", direct(&["fresh"]), true, 100..103);
    bench.publish("/", direct(&["fresh"]), false, 103..105);
}

/// Returned messages, large ones, transactions, and topology that comes and goes.
fn change(bench: &mut Bench) {
    TEMPORARY.lines().for_each(|line| declare(bench, line));
    let heavy = Sent { exchange: "amq.direct", key: "heavy", to: &["large", "fan-3"] };
    bench.publish("/", heavy, true, 276..279);
    bench.tend();
    bench.publish("/", Sent { exchange: "over", key: "", to: &["over", "plain"] }, true, 200..203);
    bench.publish("brief", Sent { exchange: "orders", key: "", to: &["plain"] }, true, 205..208);
    bench.publish("/", direct(&["returned"]), true, 210..220);
    bench.take("/", "returned", 5);
    bench.settle("/", "returned", [211, 212, 213], Settle::Requeue);
    bench.settle("/", "returned", [214], Settle::Ack);
    bench.take("/", "returned", 2);
    bench.settle("/", "returned", [212], Settle::Requeue);
    bench.publish("/", direct(&["purged"]), true, 220..230);
    bench.take("/", "purged", 2);
    bench.purge("/", "purged");
    bench.publish("/", direct(&["purged"]), true, 230..232);
    bench.publish("tenant", Sent { exchange: "orders", key: "", to: &["tenant-2"] }, true, 300..305);
    bench.publish("tenant", direct(&["plain"]), true, 305..310);
    know(bench, 0, [711, 712]);
    bench.transact("/", "gaps", &[("plain", 400), ("gaps", 401), ("fresh", 402)], true);
    bench.transact("/", "fan-1", &[("plain", 403), ("large", 404)], false);
    bench.tend();
}

/// What expires, waits, and is known when it comes again.
fn know(bench: &mut Bench, first: u32, returned: [u32; 2]) {
    for number in 700 + first..704 + first {
        // Each at another time.
        bench.advance(1);
        bench.publish("/", direct(&["brief"]), true, number..number + 1);
    }
    bench.publish("/", direct(&["retried"]), true, 710 + first..714 + first);
    bench.take("/", "retried", 3);
    bench.settle("/", "retried", returned, Settle::Requeue);
    bench.publish("/", direct(&["once"]), true, 720 + first..725 + first);
    bench.publish("/", FIRST, true, 740 + first..745 + first);
    bench.publish("/", direct(&["numbered"]), true, 900 + first..905 + first);
    bench.broker.write_log();
}

/// What is returned last is written again by the next start.
fn hesitate(bench: &mut Bench) {
    bench.take("/", "returned", 2);
    bench.broker.write_log();
    bench.settle("/", "returned", [210], Settle::Requeue);
    bench.broker.write_log();
}

/// A segment that is adopted and stays, what has to be replayed, and a torn end.
fn end(bench: &mut Bench) -> Image {
    for number in 600..614 {
        bench.publish("/", direct(&["filled"]), true, number * 100 + 88..number * 100 + 89);
        bench.broker.write_log();
        bench.broker.tend();
    }
    bench.publish("/", direct(&["plain"]), true, 500..504);
    bench.broker.write_log();
    let session = bench.side("/").session.id();
    let vhost = bench.broker.vhost("/").expect("the default virtual host");
    vhost.unbind_queue("plain", "amq.fanout", "", Default::default(), session).expect("it is bound");
    vhost.delete_exchange("over", false).expect("it is there");
    bench.delete_queue("/", "over");
    bench.delete_vhost("brief");
    drop(bench.broker.set_entry("user", "carol", None).expect("it is nothing too large"));
    bench.publish("/", FAN, true, 504..506);
    DECLARED_LATE.lines().for_each(|line| declare(bench, line));
    bench.take("/", "returned", 3);
    bench.settle("/", "returned", [211], Settle::Requeue);
    bench.settle("/", "returned", [210], Settle::Ack);
    bench.transact("tenant", "plain", &[("tenant-2", 510), ("plain", 511)], true);
    bench.publish("tenant", direct(&["plain"]), true, 512..514);
    know(bench, 5, [713, 715]);
    bench.broker.write_log();
    let before = bench.image();
    // Once more, for the image only: power fails when the first sector is written.
    bench.write_torn();
    let mut torn = bench.image();
    for (name, bytes) in &mut torn {
        let Some(old) = before.get(name) else { continue };
        if let Some(begin) = bytes.iter().zip(old).position(|(new, old)| new != old) {
            let end = (begin + 512).min(old.len()) & !511;
            bytes[end..].copy_from_slice(&old[end..]);
        }
    }
    torn
}

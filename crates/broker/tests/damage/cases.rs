//! Hundreds of directories, each with one thing damaged: whatever it is, no message is wrong and none is missing
//! without a word.

use crate::disk::{Image, MemoryDisk};
use crate::world::{Bench, Expected, body, build};
use leveret_broker::{Damage, OpenError, Report, check};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Directories that are damaged in turn.
const WORLDS: u32 = 3;

/// One thing that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bit,
    Sector,
    Cut,
    Remove,
}

/// What is damaged, and what is known of it.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when it fails")]
struct Case {
    seed: u64,
    kind: Kind,
    file: String,
    offset: usize,
    /// It hits the last segment: past what says that it is durable, or that as well.
    in_last_batch: bool,
    cuts_the_end: bool,
}

/// Numbers that look random, and are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end.max(1)
    }
}

/// A directory, what is in it, and where its last batch is.
struct World {
    image: Image,
    expected: Expected,
    last: (String, usize, usize),
}

fn world(number: u32) -> &'static World {
    static BUILT: [OnceLock<World>; WORLDS as usize] = [const { OnceLock::new() }; WORLDS as usize];
    BUILT[number as usize].get_or_init(|| {
        let (image, expected) = build(number);
        let last = last_batch(&image, &expected);
        World { image, expected, last }
    })
}

/// Where the last message is: the file, and where its batch begins and ends.
fn last_batch(image: &Image, expected: &Expected) -> (String, usize, usize) {
    let last = expected.values().flatten().max().expect("there are messages");
    let wanted = body(*last);
    let found = image.iter().filter(|(name, _)| name.ends_with(".log")).find_map(|(name, bytes)| {
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some((name.clone(), at & !4095, at + wanted.len()))
    });
    found.expect("it was written")
}

fn damage(seed: u64, world: &World) -> (Image, Case) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let World { image, last: (last_file, begin, end), .. } = world;
    let names: Vec<&String> = image.keys().collect();
    let file = names[random.below(names.len())].clone();
    let kind = [Kind::Bit, Kind::Bit, Kind::Bit, Kind::Sector, Kind::Sector, Kind::Cut, Kind::Remove][random.below(7)];
    let mut image = image.clone();
    let bytes = image.get_mut(&file).expect("chosen from them");
    let mut offset = random.below(bytes.len());
    match kind {
        Kind::Bit => bytes[offset] ^= 1 << random.below(8),
        Kind::Sector => {
            offset &= !511;
            let end = bytes.len().min(offset + 512);
            bytes[offset..end].fill(0);
        }
        Kind::Cut => bytes.truncate(offset),
        Kind::Remove => drop(image.remove(&file)),
    }
    let in_last = file == *last_file;
    let in_last_batch = in_last && (*begin..*end).contains(&offset);
    let cuts_the_end = in_last && (kind == Kind::Remove || kind == Kind::Cut && offset < *end);
    (image, Case { seed, kind, file, offset, in_last_batch, cuts_the_end })
}

fn names_queue(damage: &[Damage], queue: &str) -> bool {
    damage.iter().any(|damage| damage.queue.as_ref().is_some_and(|(_, name)| name == queue))
}

fn is_unnamed(damage: &[Damage]) -> bool {
    damage.iter().any(|damage| damage.queue.is_none())
}

fn missing(expected: &[u32], seen: &[u32]) -> Vec<u32> {
    let seen: BTreeSet<u32> = seen.iter().copied().collect();
    expected.iter().copied().filter(|number| !seen.contains(number)).collect()
}

impl Case {
    /// What is missing of a queue that is served is told, or was never confirmed for sure.
    fn check_missing(&self, queue: &str, missing: &[u32], expected: &Expected, damage: &[Damage]) {
        let last = expected.values().flatten().max().expect("there are messages");
        let excused =
            missing.is_empty() || is_unnamed(damage) || self.cuts_the_end || self.in_last_batch && missing == [*last];
        assert!(excused, "{self:?}: {missing:?} of {queue} are missing without a word");
    }

    /// Starts as an operator would who knows of nothing, twice.
    fn serve(&self, image: &Image, expected: &Expected, report: &Report) -> Result<(), OpenError> {
        let mut image = image.clone();
        for start in 0..2 {
            let mut bench = Bench::open(MemoryDisk::of(&image), false)?;
            let damage = bench.recovery.damage.clone();
            let mut closed = 0;
            for (queue, numbers) in expected {
                let (seen, error) = bench.drain(queue, |_| true);
                let missing = missing(numbers, &seen);
                match &error {
                    None => {
                        self.check_missing(queue, &missing, expected, &damage);
                        assert!(!names_queue(&damage, queue), "{self:?}: {queue} is served, and said to be damaged");
                        let lost = names_queue(&report.damage, queue);
                        assert!(!lost, "{self:?}: {queue} is served, and check says that it is damaged");
                    }
                    Some(error) => {
                        closed += 1;
                        let said = names_queue(&report.damage, queue) || is_unnamed(&report.damage);
                        assert!(said, "{self:?}, start {start}: check does not know that {queue} is damaged");
                        assert!(error.text.contains("is closed"), "{self:?}: {error:?}");
                        let refused = bench.publish("", queue, 1).expect_err("it is closed");
                        assert!(refused.text.contains("is closed"), "{self:?}: {refused:?}");
                    }
                }
                if report.is_clean() {
                    assert!(error.is_none() && damage.is_empty(), "{self:?}: check finds nothing, a start {damage:?}");
                }
            }
            let told = bench.broker.take_damage();
            assert!(damage.iter().any(|it| it.queue.is_some()) || closed <= told.len(), "{self:?}: {told:?}");
            bench.tend();
            let told = bench.broker.take_damage();
            assert!(!told.iter().any(|text| text.contains("stopped")), "{self:?}: {told:?}");
            if start == 1 {
                for queue in expected.keys() {
                    bench.channel.delete_queue(&mut bench.session, queue, false, false).expect("that is allowed");
                }
                bench.tend();
            }
            image = bench.kill();
        }
        let bench = Bench::open(MemoryDisk::of(&image), false)?;
        assert_eq!((bench.recovery.queues, bench.recovery.messages), (0, 0), "{self:?}");
        Ok(())
    }

    /// Starts as an operator would who gives up what is damaged; after that it is as if it had never been.
    fn accept(&self, image: &Image, expected: &Expected, report: &Report) {
        let mut left = Expected::new();
        let mut bench = Bench::open(MemoryDisk::of(image), true).expect("loss is accepted");
        let damage = bench.recovery.damage.clone();
        for (queue, numbers) in expected {
            let (seen, error) = bench.drain(queue, |_| true);
            assert_eq!(error, None, "{self:?}: {queue}");
            let missing = missing(numbers, &seen);
            let lost = report.queues.iter().find(|it| it.name == *queue).map_or(0, |it| it.lost);
            if is_unnamed(&damage) || is_unnamed(&report.damage) {
                left.insert(queue.clone(), seen);
                continue;
            }
            if lost as usize != missing.len() {
                self.check_missing(queue, &missing, expected, &damage);
            }
            left.insert(queue.clone(), seen);
        }
        bench.tend();
        let mut bench = Bench::open(MemoryDisk::of(&bench.kill()), false).expect("all loss was accepted");
        for (queue, numbers) in &left {
            assert_eq!(bench.drain(queue, |_| true), (numbers.clone(), None), "{self:?}: {queue}");
        }
        bench.tend();
        let image = bench.kill();
        let report = check(&MemoryDisk::read_only(&image)).expect("it can be read");
        assert!(report.queues.iter().all(|queue| queue.lost == 0), "{self:?}: {:?}", report.damage);
    }
}

fn run(seed: u64) -> &'static str {
    let world = world((seed % u64::from(WORLDS)) as u32);
    let ((image, case), expected) = (damage(seed, world), &world.expected);
    let report = check(&MemoryDisk::read_only(&image)).expect("it can be read");
    let served = case.serve(&image, expected, &report);
    case.accept(&image, expected, &report);
    match served {
        Ok(()) if report.is_clean() => "nothing",
        Ok(()) if report.damage.is_empty() => "repaired",
        Ok(()) if is_unnamed(&report.damage) => "unnamed",
        Ok(()) => "named",
        Err(error @ OpenError::Missing(_)) => {
            assert!(!report.damage.is_empty() && error.to_string().contains("accept_loss"), "{case:?}: {error}");
            "missing"
        }
        Err(error) => panic!("{case:?}: {error}"),
    }
}

#[test]
fn no_damage_makes_a_message_wrong_or_lets_one_vanish_without_a_word() {
    let only = std::env::var("DAMAGE_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let seeds = only.map_or(0..400, |seed| seed..seed + 1);
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for seed in seeds {
        println!("DAMAGE_SEED={seed}");
        *seen.entry(run(seed)).or_default() += 1;
    }
    println!("{seen:?}");
    assert!(only.is_some() || seen.len() == 5 && seen.values().all(|&count| count >= 10), "{seen:?}");
}

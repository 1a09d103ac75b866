use super::*;
use expect_test::expect;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// About the bytes that a set takes: the entries of its map, which are about two thirds full, and its bits.
fn bytes(runs: &Runs) -> usize {
    let bits = runs.pieces.values().filter(|piece| matches!(piece, Piece::Bits(..))).count();
    runs.pieces.len() * 36 + bits * size_of::<Words>()
}

/// What must hold of the pieces, whatever happened before.
fn check(runs: &Runs) {
    let (mut end, mut was_run, mut total) = (0, false, 0);
    for (&start, piece) in &runs.pieces {
        let is_run = match piece {
            Piece::Run(len) => {
                assert!(*len > 0 && start >= end && (start > end || !was_run), "{runs:?}");
                (end, total) = (start + len, total + len);
                true
            }
            Piece::Bits(ones, words) => {
                assert!(start >= end && start % STRETCH == 0 && (1..STRETCH as u16).contains(ones), "{runs:?}");
                assert_eq!(bits::count(words, 0, STRETCH), u64::from(*ones));
                (end, total) = (start + STRETCH, total + u64::from(*ones));
                false
            }
        };
        was_run = is_run;
    }
    assert_eq!(total, runs.total);
}

/// The runs of a sorted set.
fn runs_of(model: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &position in model {
        match runs.last_mut() {
            Some((first, len)) if *first + *len == position => *len += 1,
            _ => runs.push((position, 1)),
        }
    }
    runs
}

/// Does a step to both, and compares what they say of the positions around.
fn step(runs: &mut Runs, model: &mut BTreeSet<u64>, (first, count, step): (u64, u64, u8)) {
    let end = first + count;
    match step {
        0 if model.range(first..end).next().is_none() => {
            runs.insert(first, count);
            model.extend(first..end);
        }
        1 => {
            runs.add(first, count);
            model.extend(first..end);
        }
        2 => {
            runs.remove(first, count);
            model.retain(|p| !(first..end).contains(p));
        }
        3 => {
            let taken = runs.take_at(first, count);
            assert_eq!(taken, (first..end).take_while(|p| model.contains(p)).count() as u64);
            model.retain(|p| !(first..first + taken).contains(p));
        }
        // Every other position.
        4 => (first..end).step_by(2).for_each(|p| {
            runs.add(p, 1);
            model.insert(p);
        }),
        _ => (first..end).step_by(2).for_each(|p| {
            runs.remove(p, 1);
            model.remove(&p);
        }),
    }
    check(runs);
    let all = runs_of(model);
    assert_eq!((runs.len(), runs.first()), (model.len() as u64, all.first().copied()));
    assert_eq!(runs.iter().collect::<Vec<_>>(), all);
    assert_eq!(runs.clone().drain().collect::<Vec<_>>(), all);
    let absent: BTreeSet<u64> = (first..end).filter(|p| !model.contains(p)).collect();
    assert_eq!(runs.gaps(first, count).collect::<Vec<_>>(), runs_of(&absent));
    assert_eq!(runs.count(first, count), count - absent.len() as u64);
    let mut bytes = Vec::new();
    runs.encode(&mut bytes);
    bytes.push(7);
    let (decoded, rest) = Runs::decode(&bytes).expect("just encoded");
    check(&decoded);
    assert_eq!((decoded.iter().collect::<Vec<_>>(), rest), (all.clone(), &[7][..]));
    for position in [first.saturating_sub(1), first, end, first - first % STRETCH, end - end % STRETCH] {
        let run = all.iter().find(|(first, len)| (*first..first + len).contains(&position));
        assert_eq!(runs.run_at(position), run.copied(), "at {position}");
    }
}

#[test]
fn neighbours_join_and_the_front_comes_first() {
    let mut runs = Runs::default();
    runs.insert(10, 5);
    runs.insert(20, 1);
    runs.insert(15, 5);
    assert_eq!((runs.first(), runs.len()), (Some((10, 11)), 11));
    assert_eq!(runs.take_at(10, 3), 3);
    assert_eq!(runs.drain().collect::<Vec<_>>(), [(13, 8)]);
    assert_eq!(runs.len(), 0);
}

#[test]
#[should_panic(expected = "in the set already")]
fn a_position_is_there_once() {
    let mut runs = Runs::default();
    runs.insert(10, 5);
    runs.insert(14, 1);
}

#[test]
#[should_panic(expected = "in the set already")]
fn a_position_is_there_once_among_bits() {
    let mut runs = Runs::default();
    (0..100).for_each(|at| runs.insert(at * 2, 1));
    runs.insert(9, 2);
}

#[test]
fn what_is_full_of_holes_is_small_and_what_is_whole_again_is_one_entry() {
    const ALL: u64 = 256 * STRETCH;
    // Each of them once, in an order that jumps over the whole range.
    let scattered = || (0..ALL).map(|at| at * 387_420_489 % ALL);
    let mut runs = Runs::default();
    let mut most = 0;
    for (done, position) in scattered().enumerate() {
        runs.insert(position, 1);
        if done % 10_000 == 0 {
            most = most.max(bytes(&runs));
        }
    }
    assert!(most <= ALL as usize / 4, "{most} bytes");
    assert_eq!((runs.pieces.len(), runs.first()), (1, Some((0, ALL))));
    for (done, position) in scattered().enumerate() {
        assert_eq!(runs.take_at(position, 1), 1);
        if done % 10_000 == 0 {
            assert!(bytes(&runs) <= ALL as usize / 4, "{} bytes", bytes(&runs));
        }
    }
    assert_eq!((runs.pieces.len(), runs.len()), (0, 0));
}

#[test]
fn runs_go_on_across_bits_and_runs() {
    let mut runs = Runs::default();
    // Bits whose end is set, a whole run, bits whose beginning is set.
    (0..40).for_each(|at| runs.insert(at * 10, 1));
    runs.insert(STRETCH - 5, 5);
    (0..40).for_each(|at| runs.insert(3 * STRETCH + 100 + at * 10, 1));
    runs.insert(3 * STRETCH, 7);
    runs.insert(STRETCH, 2 * STRETCH);
    check(&runs);
    assert_eq!(runs.pieces.len(), 3);
    let whole = (STRETCH - 5, 2 * STRETCH + 12);
    assert_eq!([STRETCH - 1, STRETCH, 2 * STRETCH, 3 * STRETCH + 6].map(|at| runs.run_at(at)), [Some(whole); 4]);
    assert_eq!(runs.take_at(STRETCH - 3, u64::MAX), 2 * STRETCH + 10);
    assert_eq!(runs.run_at(STRETCH - 4), Some((STRETCH - 5, 2)));
}

#[test]
fn the_last_positions_of_all_are_positions_like_others() {
    let mut runs = Runs::default();
    (1..100).for_each(|at| runs.insert(u64::MAX - 2 * at, 1));
    check(&runs);
    assert_eq!(runs.first(), Some((u64::MAX - 198, 1)));
    assert_eq!(runs.gaps(u64::MAX - 200, 200).count(), 100);
    runs.remove(u64::MAX - 198, 198);
    assert_eq!(runs.len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_as_a_sorted_set_over_several_stretches(
        steps in proptest::collection::vec((0..4 * STRETCH, prop_oneof![1..9u64, 1..2 * STRETCH], 0u8..6), 1..30),
        ends in proptest::collection::vec((1..4u64, -4..4i64, 1..9u64, 0u8..4), 0..10),
    ) {
        let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
        // And close to where stretches meet.
        let ends = ends.into_iter().map(|(end, off, count, step)| ((end * STRETCH).saturating_add_signed(off), count, step));
        steps.into_iter().chain(ends).for_each(|it| step(&mut runs, &mut model, it));
    }
}

#[test]
fn a_set_of_short_runs_takes_two_bytes_for_each() {
    let mut runs = Runs::default();
    // About every other position, with runs and gaps of all short lengths.
    let gone = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).count_ones().is_multiple_of(2);
    (0..1_000_000).filter(|at| gone(*at)).for_each(|at| runs.insert(at, 1));
    let mut bytes = Vec::new();
    runs.encode(&mut bytes);
    assert_eq!(bytes.len(), 2 * runs.iter().count() + 1);
    assert_eq!(Runs::decode(&bytes).expect("just encoded").0.len(), runs.len());
}

#[test]
fn bytes_of_a_set_are_checked() {
    let check = |bytes: &[u8], expected: expect_test::Expect| {
        let told = Runs::decode(bytes).map(|(runs, rest)| (runs.iter().collect::<Vec<_>>(), rest.len()));
        expected.assert_eq(&format!("{told:?}"));
    };
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    check(&[], expect!["None"]);
    check(&[0], expect!["Some(([], 0))"]);
    check(&[1, 0, 0], expect!["Some(([(0, 1)], 0))"]);
    check(&[1, 0, 2, 3, 0, 9], expect!["Some(([(0, 1), (4, 2)], 1))"]);
    // Runs that touch are one.
    check(&[1, 0, 2, 0, 0], expect!["Some(([(0, 3)], 0))"]);
    check(&[1, 0, 2], expect!["None"]);
    check(&[1, 0], expect!["None"]);
    check(&[&most[..], &[0, 0]].concat(), expect!["Some(([(0, 18446744073709551615)], 0))"]);
    // Beyond all positions, and numbers of more than 64 bits.
    check(&[&most[..], &[1, 0]].concat(), expect!["None"]);
    check(&[&most[..], &[0, 1, 1, 0]].concat(), expect!["None"]);
    check(&[&most[..9], &[2, 0, 0]].concat(), expect!["None"]);
    check(&[&most[..9], &[0x81, 0, 0, 0]].concat(), expect!["None"]);
}

proptest! {
    #[test]
    fn any_bytes_are_a_set_or_not(bytes in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..400)) {
        if let Some((runs, rest)) = Runs::decode(&bytes) {
            check(&runs);
            prop_assert!(rest.len() < bytes.len());
        }
        if let Some((counts, _)) = Counts::decode(&bytes) {
            let mut again = Vec::new();
            counts.encode(&mut again);
            let (same, _) = Counts::decode(&again).expect("just encoded");
            prop_assert_eq!(same.iter().collect::<Vec<_>>(), counts.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn behaves_as_a_sorted_set(steps in proptest::collection::vec((0u64..64, 1u64..8, 0u8..4), 1..100)) {
        let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
        steps.into_iter().for_each(|it| step(&mut runs, &mut model, it));
    }

    #[test]
    fn counts_are_those_of_each_position(steps in proptest::collection::vec((0u64..40, 1u64..8, any::<bool>()), 1..60)) {
        let (mut counts, mut model) = (Counts::default(), BTreeMap::new());
        for (first, count, add) in steps {
            if add {
                counts.add(first, count);
                (first..first + count).for_each(|p| *model.entry(p).or_insert(0u64) += 1);
            } else {
                counts.remove(first, count);
                model.retain(|p, _| !(first..first + count).contains(p));
            }
            for position in 0..48 {
                let (count, same) = counts.get(position, 5);
                prop_assert_eq!(count, model.get(&position).copied().unwrap_or(0));
                prop_assert!((1..=5).contains(&same));
                for next in position..position + same {
                    prop_assert_eq!(model.get(&next).copied().unwrap_or(0), count);
                }
            }
        }
    }
}

//! The replay table at its full size of behaviour: many threads, full tables, its own promises about room.

use std::collections::HashSet;

use mixnode::keys::replay::{ReplayRefusal, ReplayTable, table_bytes, tags_for};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

fn tags(count: usize, seed: u64) -> Vec<[u8; 16]> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut tag = [0; 16];
    std::iter::repeat_with(|| {
        rng.fill_bytes(&mut tag);
        tag
    })
    .take(count)
    .collect()
}

#[test]
fn a_tag_is_fresh_once_and_seen_ever_after() {
    let table = ReplayTable::new(1000, &[3; 16]).unwrap();
    for tag in tags(1000, 1) {
        assert_eq!(table.insert(&tag), Ok(()));
        assert_eq!(table.insert(&tag), Err(ReplayRefusal::Seen));
    }
    assert!(
        tags(1000, 1)
            .iter()
            .all(|tag| table.insert(tag) == Err(ReplayRefusal::Seen))
    );
}

#[test]
fn a_table_touched_in_use_forgets_nothing_and_stays_as_large_as_it_was() {
    // Below and above the size from which huge pages are asked for.
    for count in [1000, 400_000] {
        let table = ReplayTable::new(count, &[3; 16]).unwrap();
        let bytes = table.bytes();
        let (early, late) = (tags(500, 1), tags(500, 2));
        assert!(early.iter().all(|tag| table.insert(tag).is_ok()));
        let mut pieces = 1;
        let mut from = 0;
        while let Some(next) = table.touch(from).unwrap() {
            (from, pieces) = (next, pieces + 1);
        }
        assert_eq!(pieces, bytes.div_ceil(4 << 20));
        for tag in &late {
            table.prefetch(tag);
            assert_eq!(table.insert(tag), Ok(()));
        }
        assert!(
            early
                .iter()
                .chain(&late)
                .all(|tag| table.insert(tag) == Err(ReplayRefusal::Seen))
        );
        assert_eq!(table.bytes(), bytes);
        assert!(!table.is_huge() || count > 1000);
    }
}

#[test]
fn touching_past_the_end_of_a_table_is_nothing() {
    let table = ReplayTable::new(1 << 20, &[3; 16]).unwrap();
    assert_eq!(table.touch(table.bytes()).unwrap(), None);
    assert_eq!(table.touch(usize::MAX - 4096 + 1).unwrap(), None);
}

#[test]
fn many_threads_with_the_same_packets_let_each_through_exactly_once() {
    let all = tags(20_000, 2);
    let table = ReplayTable::new(all.len() as u64, &[9; 16]).unwrap();
    let fresh: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4usize)
            .map(|worker| {
                let (all, table) = (&all, &table);
                // Every worker comes by every packet, from another end.
                scope.spawn(move || {
                    let order = (0..all.len()).map(move |n| {
                        if worker % 2 == 0 {
                            n
                        } else {
                            all.len() - 1 - n
                        }
                    });
                    order
                        .filter(|&n| table.insert(&all[n]).is_ok())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let different: HashSet<usize> = fresh.iter().copied().collect();
    assert_eq!((fresh.len(), different.len()), (all.len(), all.len()));
}

#[test]
fn a_full_table_refuses_and_never_forgets() {
    let table = ReplayTable::new(64, &[5; 16]).unwrap();
    let slots = table.bytes() / 8;
    let all = tags(20 * slots, 3);
    let kept: Vec<_> = all.iter().filter(|tag| table.insert(tag).is_ok()).collect();
    // Everything is taken now: no more than there are slots, and all of them.
    assert_eq!(kept.len(), slots);
    for tag in &all {
        let expected = if kept.contains(&tag) {
            ReplayRefusal::Seen
        } else {
            ReplayRefusal::Full
        };
        assert_eq!(table.insert(tag), Err(expected));
    }
}

#[test]
fn at_the_rate_it_is_made_for_next_to_nothing_is_refused() {
    let all = tags(200_000, 4);
    let table = ReplayTable::new(all.len() as u64, &[6; 16]).unwrap();
    let refused = all.iter().filter(|tag| table.insert(tag).is_err()).count();
    assert!(refused <= 20, "{refused} of {}", all.len());
}

/// A sender who knows the code, but not the secret, can't fill one bucket: tags that collide under one secret are
/// spread under another.
#[test]
fn tags_that_crowd_one_secret_are_spread_by_another() {
    let (known, real) = (
        ReplayTable::new(4096, &[1; 16]).unwrap(),
        ReplayTable::new(4096, &[2; 16]).unwrap(),
    );
    let mut crowding = Vec::new();
    for tag in tags(100_000, 5) {
        if known.insert(&tag) == Err(ReplayRefusal::Full) {
            crowding.push(tag);
            if crowding.len() == 4096 {
                break;
            }
        }
    }
    assert_eq!(crowding.len(), 4096);
    assert!(
        crowding
            .iter()
            .filter(|tag| real.insert(tag).is_err())
            .count()
            <= 4
    );
}

#[test]
fn the_bytes_told_beforehand_are_those_taken() {
    for (max_pps, life_ms) in [(0, 0), (1, 1), (500, 120_000), (20_000, 60_000)] {
        let table = ReplayTable::new(tags_for(max_pps, life_ms), &[0; 16]).unwrap();
        assert_eq!(table.bytes() as u64, table_bytes(max_pps, life_ms));
    }
    assert_eq!(tags_for(1000, 2_400_000), 2_400_000);
    // Overflowing rates are capped, not wrapped.
    assert_eq!(table_bytes(u32::MAX, u64::MAX), 64 << 30);
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_set_until_it_is_full(
        small in proptest::collection::vec(0u8..200, 1..400),
        secret: [u8; 16],
    ) {
        let table = ReplayTable::new(400, &secret).unwrap();
        let mut set = HashSet::new();
        for value in small {
            let fresh = table.insert(&[value; 16]);
            let expected = if set.insert(value) { Ok(()) } else { Err(ReplayRefusal::Seen) };
            prop_assert_eq!(fresh, expected);
        }
    }
}

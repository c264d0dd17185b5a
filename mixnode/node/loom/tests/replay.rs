//! The replay table's insert under the model checker: every interleaving of threads with equal and different
//! tags.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use models::replay::{ReplayRefusal, insert_if_absent};

/// Inserts each thread's fingerprints into one bucket of `slots`; the outcomes by thread.
fn run(
    slots: usize,
    threads: &[&[u64]],
    check: impl Fn(Vec<Vec<Result<(), ReplayRefusal>>>) + Sync + Send + 'static,
) {
    let threads: Vec<Vec<u64>> = threads
        .iter()
        .map(|fingerprints| fingerprints.to_vec())
        .collect();
    loom::model(move || {
        let bucket: Arc<Vec<AtomicU64>> = Arc::new((0..slots).map(|_| AtomicU64::new(0)).collect());
        let handles: Vec<_> = threads
            .iter()
            .cloned()
            .map(|fingerprints| {
                let bucket = Arc::clone(&bucket);
                thread::spawn(move || {
                    fingerprints
                        .iter()
                        .map(|&one| insert_if_absent(bucket.iter(), one))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        check(
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .collect(),
        );
    });
}

#[test]
fn of_three_threads_with_one_packet_exactly_one_is_told_that_it_is_fresh() {
    run(2, &[&[7], &[7], &[7]], |outcomes| {
        let fresh = outcomes
            .iter()
            .flatten()
            .filter(|outcome| outcome.is_ok())
            .count();
        assert_eq!(fresh, 1);
        assert!(
            outcomes
                .iter()
                .flatten()
                .all(|outcome| *outcome != Err(ReplayRefusal::Full))
        );
    });
}

#[test]
fn equal_tags_meet_whatever_other_tags_do_in_between() {
    run(3, &[&[1, 2], &[2, 1]], |outcomes| {
        let fresh = outcomes
            .iter()
            .flatten()
            .filter(|outcome| outcome.is_ok())
            .count();
        assert_eq!(fresh, 2);
    });
}

#[test]
fn a_full_bucket_refuses_and_what_it_holds_stays_seen() {
    run(1, &[&[1, 1], &[2, 2]], |outcomes| {
        let flat: Vec<_> = outcomes.iter().flatten().collect();
        assert_eq!(flat.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for thread in &outcomes {
            match thread[0] {
                Ok(()) => assert_eq!(thread[1], Err(ReplayRefusal::Seen)),
                Err(refusal) => assert_eq!(
                    (refusal, thread[1]),
                    (ReplayRefusal::Full, Err(ReplayRefusal::Full))
                ),
            }
        }
    });
}

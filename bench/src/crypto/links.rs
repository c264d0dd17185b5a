//! Link frames: one batch to one neighbour.

use super::measure::consuming;
use crate::cases::Case;
use arrayvec::ArrayVec;
use link::{BATCH_MAX, DATAGRAM_BYTES, Kind, OpenJob, ReceiveKey, SealJob, SendKey};
use std::hint::black_box;

const KEY: [u8; 32] = [9; 32];

pub(super) const SEAL: &str = "link seal";
pub(super) const OPEN: &str = "link open";

/// Batches of one measurement.
const CALLS: usize = 4;

pub(super) fn cases() -> Vec<Case> {
    vec![seal_frames(), open_frames()]
}

fn frames() -> Vec<[u8; DATAGRAM_BYTES]> {
    vec![[7; DATAGRAM_BYTES]; BATCH_MAX * CALLS]
}

fn seal(session: &SendKey, frames: &mut [[u8; DATAGRAM_BYTES]]) {
    for frames in frames.chunks_mut(BATCH_MAX) {
        let jobs = (0..).zip(frames).map(|(counter, datagram)| SealJob {
            session,
            counter,
            kind: Kind::Sphinx,
            epoch: 1,
            datagram,
        });
        let mut jobs: ArrayVec<SealJob<'_>, BATCH_MAX> = jobs.collect();
        link::seal_batch(&mut jobs);
    }
}

fn seal_frames() -> Case {
    let session = SendKey::new(&KEY, 1);
    let count = BATCH_MAX * CALLS;
    consuming(SEAL, BATCH_MAX, count, frames, move |mut frames| {
        seal(&session, &mut frames);
        black_box(frames);
    })
}

fn open_frames() -> Case {
    let session = ReceiveKey::new(&KEY);
    let mut sealed = frames();
    seal(&SendKey::new(&KEY, 1), &mut sealed);
    let count = BATCH_MAX * CALLS;
    let prepare = move || sealed.clone();
    consuming(OPEN, BATCH_MAX, count, prepare, move |mut frames| {
        let mut verdicts = ArrayVec::new();
        for frames in frames.chunks_mut(BATCH_MAX) {
            let session = &session;
            let jobs = frames
                .iter_mut()
                .map(|datagram| OpenJob { session, datagram });
            let mut jobs: ArrayVec<OpenJob<'_>, BATCH_MAX> = jobs.collect();
            link::open_batch(&mut jobs, &mut verdicts);
            assert!(verdicts.iter().all(Result::is_ok));
        }
        black_box(frames);
    })
}

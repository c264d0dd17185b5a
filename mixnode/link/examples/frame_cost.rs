//! The cost of a frame at batch 64, beside AES-GCM used without a session (key expanded for every frame):
//! `cargo run --release -p link --example frame_cost`.

use std::hint::black_box;
use std::time::Instant;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use arrayvec::ArrayVec;
use link::*;

const RUNS: usize = 501;

type Packet = [u8; DATAGRAM_BYTES];

fn seal(key: &SendKey, frames: &mut [Packet]) {
    let mut jobs: ArrayVec<_, BATCH_MAX> = frames
        .iter_mut()
        .enumerate()
        .map(|(index, datagram)| SealJob {
            session: key,
            counter: index as u64,
            kind: Kind::Sphinx,
            epoch: 1,
            datagram,
        })
        .collect();
    seal_batch(&mut jobs);
}

fn open(key: &ReceiveKey, frames: &mut [Packet]) {
    let mut verdicts = ArrayVec::new();
    let mut jobs: ArrayVec<_, BATCH_MAX> = frames
        .iter_mut()
        .map(|datagram| OpenJob {
            session: key,
            datagram,
        })
        .collect();
    open_batch(&mut jobs, &mut verdicts);
    assert!(verdicts.iter().all(Result::is_ok));
}

fn naive_seal(key: &[u8; 32], frames: &mut [Packet]) {
    for (index, frame) in frames.iter_mut().enumerate() {
        let mut clear = [0; 12];
        clear[0] = 4;
        clear[1] = index as u8;
        frame[..12].copy_from_slice(&clear);
        frame[12..16].copy_from_slice(&[1, 1, 0, 0]);
        let cipher = Aes256Gcm::new(key.into());
        let tag =
            cipher.encrypt_inout_detached(&clear.into(), &clear, (&mut frame[12..1216]).into());
        frame[1216..].copy_from_slice(&tag.unwrap_or_default());
    }
}

/// Nanoseconds a frame, one run.
fn time(frames: &mut [Packet], work: impl FnOnce(&mut [Packet])) -> f64 {
    let start = Instant::now();
    work(black_box(frames));
    start.elapsed().as_nanos() as f64 / frames.len() as f64
}

fn main() {
    let key = [7; 32];
    let (send, receive) = (SendKey::new(&key, 0), ReceiveKey::new(&key));
    let mut frames = vec![[5; DATAGRAM_BYTES]; BATCH_MAX];
    let mut times: [Vec<f64>; 4] = Default::default();
    // Interleaved, so that a busy moment of the host touches all alike.
    for _ in 0..RUNS {
        times[0].push(time(&mut frames, |frames| seal(&send, frames)));
        times[1].push(time(&mut frames, |frames| open(&receive, frames)));
        times[2].push(time(&mut frames, |frames| naive_seal(&key, frames)));
        times[3].push(time(&mut frames[..1], |frames| seal(&send, frames)));
    }
    for (name, mut times) in [
        "seal, batch 64",
        "open, batch 64",
        "seal, key per frame",
        "seal, batch 1",
    ]
    .into_iter()
    .zip(times)
    {
        times.sort_by(f64::total_cmp);
        println!(
            "{name:<20} {:>6.0} ns a frame (p10 {:.0}, p90 {:.0})",
            times[RUNS / 2],
            times[RUNS / 10],
            times[RUNS * 9 / 10]
        );
    }
}

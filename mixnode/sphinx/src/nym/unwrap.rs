//! Opening packets at a hop, a batch at a time and in place.

use super::header::{Block, peel};
use super::keys::{HopKeys, PayloadKey};
use super::{
    Destination, ELEMENT_BYTES, HEADER_BYTES, PACKET_BYTES_MIN, ROUTING_OFFSET, ReplayTag, lioness,
};
use crate::geometry::read;
use crate::header::is_zero;
use crate::lanes::Lanes;
use crate::wipe::wipe;
use crate::{BATCH_MAX, EpochSecret, Reject};
use arrayvec::ArrayVec;

/// One packet to open, and the secret to try.
pub struct Job<'a> {
    /// Opened in place, at any length. After [`Command::Forward`] it is the next hop's packet, after
    /// [`Command::Final`] its payload is the recipient's; after a rejection its bytes are unspecified.
    pub packet: &'a mut [u8],
    /// The node's secret.
    pub secret: &'a EpochSecret,
}

/// What a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hold it, then send it on.
    Forward {
        /// The next hop's address.
        next: [u8; 32],
        /// How long to hold it.
        delay_ns: u64,
    },
    /// Give the payload to this recipient.
    Final(Destination),
}

/// An accepted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwrapped {
    /// What to do with it.
    pub command: Command,
    /// Its wire version.
    pub version: super::Version,
}

/// Opens packets in batches; wipes its scratch before it returns.
pub struct Engine {
    lanes: Lanes,
    delay_max_ns: u64,
    scalars: [[u8; 32]; BATCH_MAX],
    points: [[u8; 32]; BATCH_MAX],
    products: [[u8; 32]; BATCH_MAX],
}

impl Engine {
    /// An engine that computes with `lanes` and refuses delays over `delay_max_ns`.
    pub fn new(lanes: Lanes, delay_max_ns: u64) -> Self {
        Self {
            lanes,
            delay_max_ns,
            scalars: [[0; 32]; BATCH_MAX],
            points: [[0; 32]; BATCH_MAX],
            products: [[0; 32]; BATCH_MAX],
        }
    }

    /// Opens every job's packet, and leaves in `verdicts` one verdict a job, in their order.
    ///
    /// `replay` is called with the job's index and its tag once its header is proved genuine and before anything
    /// is decrypted. A packet too short to be one is rejected as [`Reject::Body`].
    ///
    /// At most [`BATCH_MAX`] jobs are opened; any beyond are left untouched and get no verdict.
    pub fn unwrap_batch(
        &mut self,
        jobs: &mut [Job<'_>],
        replay: &mut dyn FnMut(usize, &ReplayTag) -> Result<(), Reject>,
        verdicts: &mut ArrayVec<Result<Unwrapped, Reject>, BATCH_MAX>,
    ) {
        debug_assert!(jobs.len() <= BATCH_MAX);
        verdicts.clear();
        let count = jobs.len().min(BATCH_MAX);
        let jobs = &mut jobs[..count];
        for ((job, scalar), point) in jobs.iter().zip(&mut self.scalars).zip(&mut self.points) {
            *scalar = *job.secret.secret();
            *point = element(job.packet);
        }
        self.multiply(count);
        let mut blinded = 0;
        let mut keys = ArrayVec::<Option<PayloadKey>, BATCH_MAX>::new();
        // The second batch is packed to the front while the first is read: it can't overtake, a job adds one at most.
        for (index, job) in jobs.iter_mut().enumerate() {
            let shared = self.products[index];
            let opened = open_header(job.packet, &shared, self.delay_max_ns, &mut |tag| {
                replay(index, tag)
            });
            verdicts.push(opened.map(|(unwrapped, hop)| {
                keys.push(Some(hop.payload(unwrapped.version)));
                if let Command::Forward { .. } = unwrapped.command {
                    self.scalars[blinded] = hop.blinding();
                    self.points[blinded] = element(job.packet);
                    blinded += 1;
                }
                unwrapped
            }));
            if keys.len() == index {
                keys.push(None);
            }
        }
        self.multiply(blinded);
        let mut elements = self.products[..blinded].iter();
        let mut blocks = ArrayVec::<lioness::Block<'_>, BATCH_MAX>::new();
        for ((job, verdict), key) in jobs.iter_mut().zip(&*verdicts).zip(&keys) {
            let (Ok(unwrapped), Some(key)) = (verdict, key) else {
                continue;
            };
            let (header, data) = job.packet.split_at_mut(HEADER_BYTES);
            if let Command::Forward { .. } = unwrapped.command
                && let Some(element) = elements.next()
            {
                header[..ELEMENT_BYTES].copy_from_slice(element);
            }
            blocks.push(lioness::Block { key, data });
        }
        lioness::decrypt_batch(&mut blocks);
        wipe(self.scalars[..count].as_flattened_mut());
        wipe(self.products[..count].as_flattened_mut());
    }

    fn multiply(&mut self, count: usize) {
        self.lanes.x25519(
            &self.scalars[..count],
            &self.points[..count],
            &mut self.products[..count],
        );
    }
}

/// α, or zeros, which no key shares a secret with, if the packet is too short.
fn element(packet: &[u8]) -> [u8; ELEMENT_BYTES] {
    packet.first_chunk().copied().unwrap_or_default()
}

/// The checks of the header, in order, and its peeling.
fn open_header(
    packet: &mut [u8],
    shared: &[u8; 32],
    delay_max_ns: u64,
    replay: &mut dyn FnMut(&ReplayTag) -> Result<(), Reject>,
) -> Result<(Unwrapped, HopKeys), Reject> {
    if packet.len() < PACKET_BYTES_MIN {
        return Err(Reject::Body);
    }
    let header = packet
        .first_chunk_mut::<HEADER_BYTES>()
        .ok_or(Reject::Body)?;
    if is_zero(shared) {
        return Err(Reject::LowOrder);
    }
    let keys = HopKeys::derive(shared);
    keys.verify(&read(header, ROUTING_OFFSET), &read(header, ELEMENT_BYTES))?;
    replay(&keys.replay_tag())?;
    let (version, block) = peel(header, &keys, delay_max_ns)?;
    let command = match block {
        Block::Forward { next, delay_ns } => Command::Forward { next, delay_ns },
        Block::Final(destination) => Command::Final(destination),
    };
    Ok((Unwrapped { command, version }, keys))
}

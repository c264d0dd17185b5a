//! Opening packets at a hop, a batch at a time and in place.

use crate::geometry::{
    CHECK_BYTES, HOP_BLOCK_BYTES, KEM_BYTES, MAC_BYTES, MAC_OFFSET, ROUTING_OFFSET, read,
};
use crate::header::{Block, is_zero, keystream, xor};
use crate::keys::{HopKeys, KeyDerivation};
use crate::lanes::Lanes;
use crate::wipe::wipe;
use crate::{
    BATCH_MAX, Command, EpochSecret, HEADER_BYTES, PACKET_BYTES, ROUTING_BYTES, ReplayTag, hctr2,
};
use arrayvec::ArrayVec;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Why a packet was refused, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Reject {
    /// The KEM ciphertext is a point of low order: the shared secret would be zero whatever the key.
    #[error("the KEM ciphertext has low order")]
    LowOrder,
    /// The header was altered, or made for another key.
    #[error("the header's MAC does not hold")]
    Mac,
    /// A packet with this tag was opened before.
    #[error("the packet was seen before")]
    Replay,
    /// The replay filter has no room to remember this packet.
    #[error("the replay filter is full")]
    ReplayFull,
    /// Command 0, or one that this version does not know.
    #[error("unknown command")]
    Command,
    /// Flags or unused fields that are not zero.
    #[error("reserved bits are set")]
    Reserved,
    /// The delay exceeds this node's bound.
    #[error("the delay exceeds the bound")]
    Delay,
    /// The body was altered on the way to the one who can check it.
    #[error("the body was altered")]
    Body,
}

/// One packet to open, and the secret to try.
pub struct Job<'a> {
    /// Opened in place. After [`Command::Forward`] it is the next hop's packet; after [`Command::Deliver`] its body
    /// is what the client gets; after a rejection its bytes are unspecified.
    pub packet: &'a mut [u8; PACKET_BYTES],
    /// The node's secret of the packet's epoch.
    pub secret: &'a EpochSecret,
}

/// What an accepted packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwrapped {
    /// What to do with it.
    pub command: Command,
    /// How long to hold it first, in microseconds.
    pub delay_us: u32,
}

/// What remembers the packets that were seen, as the engine asks it. Tags of different secrets are unrelated.
pub trait ReplayFilter {
    /// The job with the given index has this tag, if its header is genuine, which is checked next: time to load what
    /// [`ReplayFilter::admit`] will look at.
    fn expect(&mut self, _job: usize, _tag: &ReplayTag) {}

    /// Remembers the tag of the job with the given index.
    ///
    /// # Errors
    /// [`Reject::Replay`] or [`Reject::ReplayFull`]: the packet is not opened.
    fn admit(&mut self, job: usize, tag: &ReplayTag) -> Result<(), Reject>;
}

/// A filter that is asked and not told beforehand.
struct Asked<'a>(&'a mut dyn FnMut(usize, &ReplayTag) -> Result<(), Reject>);

impl ReplayFilter for Asked<'_> {
    fn admit(&mut self, job: usize, tag: &ReplayTag) -> Result<(), Reject> {
        (self.0)(job, tag)
    }
}

/// Opens packets in batches. It holds the batch's shared secrets while it works, so that they need no allocation,
/// and wipes them before it returns.
pub struct Engine {
    lanes: Lanes,
    delay_max_us: u32,
    derivation: KeyDerivation,
    scalars: Zeroizing<[[u8; 32]; BATCH_MAX]>,
    points: [[u8; 32]; BATCH_MAX],
    shared: Zeroizing<[[u8; 32]; BATCH_MAX]>,
}

impl Engine {
    /// An engine that computes with `lanes` and refuses delays over `delay_max_us`.
    pub fn new(lanes: Lanes, delay_max_us: u32) -> Self {
        Self {
            lanes,
            delay_max_us,
            derivation: KeyDerivation::new(),
            scalars: Zeroizing::new([[0; 32]; BATCH_MAX]),
            points: [[0; 32]; BATCH_MAX],
            shared: Zeroizing::new([[0; 32]; BATCH_MAX]),
        }
    }

    /// Opens every job's packet, and leaves in `verdicts` one verdict a job, in their order.
    ///
    /// `replay` is asked about the job with the given index once its header is proved genuine and before anything
    /// else is decrypted; it remembers the tag and returns `Ok`, or says [`Reject::Replay`] or
    /// [`Reject::ReplayFull`]. Tags of different secrets are unrelated.
    ///
    /// At most [`BATCH_MAX`] jobs are opened; any beyond are left untouched and get no verdict.
    pub fn unwrap_batch(
        &mut self,
        jobs: &mut [Job<'_>],
        replay: &mut dyn FnMut(usize, &ReplayTag) -> Result<(), Reject>,
        verdicts: &mut ArrayVec<Result<Unwrapped, Reject>, BATCH_MAX>,
    ) {
        self.unwrap_batch_filtered(jobs, &mut Asked(replay), verdicts);
    }

    /// As [`Engine::unwrap_batch`], with a filter that is told of each tag before it is asked.
    pub fn unwrap_batch_filtered(
        &mut self,
        jobs: &mut [Job<'_>],
        replay: &mut dyn ReplayFilter,
        verdicts: &mut ArrayVec<Result<Unwrapped, Reject>, BATCH_MAX>,
    ) {
        verdicts.clear();
        let count = jobs.len().min(BATCH_MAX);
        for ((job, scalar), point) in jobs
            .iter()
            .zip(self.scalars.iter_mut())
            .zip(&mut self.points)
        {
            *scalar = *job.secret.secret();
            *point = read(job.packet, 0);
        }
        self.lanes.x25519(
            &self.scalars[..count],
            &self.points[..count],
            &mut self.shared[..count],
        );
        for (index, (job, dh)) in jobs.iter_mut().zip(self.shared.iter()).enumerate() {
            verdicts.push(open(
                job,
                dh,
                &self.derivation,
                self.delay_max_us,
                index,
                replay,
            ));
        }
        wipe(self.scalars[..count].as_flattened_mut());
        wipe(self.shared[..count].as_flattened_mut());
    }
}

/// Everything after the scalar multiplication, for one packet.
fn open(
    job: &mut Job<'_>,
    dh: &[u8; 32],
    derivation: &KeyDerivation,
    delay_max_us: u32,
    index: usize,
    replay: &mut dyn ReplayFilter,
) -> Result<Unwrapped, Reject> {
    if is_zero(dh) {
        return Err(Reject::LowOrder);
    }
    let (header, body) = job
        .packet
        .split_first_chunk_mut::<HEADER_BYTES>()
        .ok_or(Reject::Mac)?;
    let keys = derivation.hop_keys(dh, &read(header, 0), job.secret.public_key());
    replay.expect(index, keys.replay_tag());
    let mac: [u8; MAC_BYTES] = read(header, MAC_OFFSET);
    if !bool::from(mac.ct_eq(&keys.mac(header))) {
        return Err(Reject::Mac);
    }
    replay.admit(index, keys.replay_tag())?;
    let block = peel_header(header, &keys, delay_max_us)?;
    hctr2::decrypt(keys.body(), body);
    if matches!(block.command, Command::Loop { .. } | Command::Drop)
        && !is_zero::<CHECK_BYTES>(&read(body, 0))
    {
        return Err(Reject::Body);
    }
    Ok(Unwrapped {
        command: block.command,
        delay_us: block.delay_us,
    })
}

/// Takes this hop's block off the header and makes the rest the next hop's header, at the same size.
fn peel_header(
    header: &mut [u8; HEADER_BYTES],
    keys: &HopKeys,
    delay_max_us: u32,
) -> Result<Block, Reject> {
    let stream = keystream(keys.stream());
    let mut bytes: [u8; HOP_BLOCK_BYTES] = read(header, ROUTING_OFFSET);
    xor(&mut bytes, &stream[..]);
    let block = Block::parse(&bytes, delay_max_us)?;
    let routing = &mut header[ROUTING_OFFSET..];
    routing.copy_within(HOP_BLOCK_BYTES.., 0);
    routing[ROUTING_BYTES - HOP_BLOCK_BYTES..].fill(0);
    xor(routing, &stream[HOP_BLOCK_BYTES..]);
    header[..KEM_BYTES].copy_from_slice(&block.next_ciphertext);
    header[MAC_OFFSET..ROUTING_OFFSET].copy_from_slice(&block.next_mac);
    Ok(block)
}

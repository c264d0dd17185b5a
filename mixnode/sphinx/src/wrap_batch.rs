//! Several packets and reply blocks at once: what all of them need of X25519 goes into common batches.

use crate::keys::KeyDerivation;
use crate::lanes::{ENCAPSULATE_MAX, Lanes};
use crate::pairs::Pairs;
use crate::surb::{ReplierKey, assemble, draw_replier_key};
use crate::wrap::Draft;
use crate::{
    BODY_BYTES, DestinationTag, HOPS_MAX, Id, PACKET_BYTES, PathHop, Surb, SurbSecret, Terminal,
    WrapError,
};
use arrayvec::ArrayVec;
use rand_core::CryptoRng;

/// Something to make.
pub enum WrapJob<'a> {
    /// What [`wrap`](crate::wrap()) makes.
    Packet {
        /// The nodes in the order of travel.
        path: &'a [PathHop],
        /// What the last of them is told.
        terminal: &'a Terminal,
        /// What is there after its layer.
        body: &'a [u8; BODY_BYTES],
        /// Where the packet is written; after an error its bytes are unspecified.
        packet: &'a mut [u8; PACKET_BYTES],
    },
    /// What [`surb_create`](crate::surb_create) makes.
    Surb {
        /// The nodes in the order of travel.
        path: &'a [PathHop],
        /// Whose keys the path has.
        epoch: u32,
        /// The client at its end.
        destination: DestinationTag,
        /// Names the reply block to that client.
        id: Id,
    },
}

impl WrapJob<'_> {
    fn path(&self) -> &[PathHop] {
        match self {
            Self::Packet { path, .. } | Self::Surb { path, .. } => path,
        }
    }
}

/// What came of a job.
// Results lie in a batch of fixed memory; a box each would allocate.
#[allow(clippy::large_enum_variant)]
pub enum Wrapped {
    /// The packet is where the job said.
    Packet,
    /// A reply block, to give away and to keep.
    Surb(Surb, SurbSecret),
}

/// Makes every job's packet or reply block, and leaves in `results` one result a job, in their order.
///
/// The same as [`wrap`](crate::wrap()) and [`surb_create`](crate::surb_create) one after the other, to the byte and
/// to what is drawn from `rng`. Eight packets of five hops fill the lanes.
///
/// At most `N` jobs are done; any beyond are left untouched and get no result.
pub fn wrap_batch<R: CryptoRng + ?Sized, const N: usize>(
    lanes: Lanes,
    rng: &mut R,
    jobs: &mut [WrapJob<'_>],
    results: &mut ArrayVec<Result<Wrapped, WrapError>, N>,
) {
    results.clear();
    let count = jobs.len().min(N);
    let derivation = KeyDerivation::new();
    let mut pairs = Pairs::new();
    while results.len() < count {
        let waiting = &mut jobs[results.len()..count];
        let mut drawn: ArrayVec<Result<Drawn, WrapError>, ENCAPSULATE_MAX> = ArrayVec::new();
        for job in waiting.iter() {
            // A path that is too long draws nothing.
            if drawn.is_full() || !pairs.have_room(job.path().len().min(HOPS_MAX)) {
                break;
            }
            drawn.push(draw(job, rng, &mut pairs));
        }
        pairs.multiply(lanes);
        for (job, drawn) in waiting.iter_mut().zip(drawn) {
            results.push(drawn.and_then(|drawn| finish(job, drawn, &pairs, &derivation)));
        }
        pairs.clear();
    }
}

/// What a job draws: its header's part, and the replier's key if it makes a reply block.
type Drawn = (Draft, Option<ReplierKey>);

fn draw<R: CryptoRng + ?Sized>(
    job: &WrapJob<'_>,
    rng: &mut R,
    pairs: &mut Pairs,
) -> Result<Drawn, WrapError> {
    let draft = Draft::draw(rng, job.path(), pairs)?;
    let replier = matches!(job, WrapJob::Surb { .. }).then(|| draw_replier_key(rng));
    Ok((draft, replier))
}

fn finish(
    job: &mut WrapJob<'_>,
    (draft, replier): Drawn,
    pairs: &Pairs,
    derivation: &KeyDerivation,
) -> Result<Wrapped, WrapError> {
    match job {
        WrapJob::Packet {
            path,
            terminal,
            body,
            packet,
        } => draft
            .packet(path, terminal, body, pairs, derivation, packet)
            .map(|()| Wrapped::Packet),
        WrapJob::Surb {
            path,
            epoch,
            destination,
            id,
        } => {
            let terminal = Terminal::Deliver {
                destination: *destination,
                id: *id,
            };
            let (header, hops) = draft.header(path, &terminal, pairs, derivation)?;
            let replier = replier.unwrap_or_default();
            assemble(path, *epoch, &header, hops, replier)
                .map(|(surb, secret)| Wrapped::Surb(surb, secret))
        }
    }
}

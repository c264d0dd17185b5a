//! The crate's verdicts in the words of the reference implementation, and the oracle that the fuzz target and the
//! stable replay of its corpus share.

use super::reference::{self, Outcome, RawHop};
use arrayvec::ArrayVec;
use sphinx::lanes::Lanes;
use sphinx::{
    BATCH_MAX, BODY_BYTES, Command, Engine, EpochSecret, HEADER_BYTES, Job, PACKET_BYTES, Reject,
    SURB_BYTES, Surb, Unwrapped, surb_use,
};

/// The bound of every engine in the tests, in microseconds.
pub const DELAY_MAX_US: u32 = 200_000;

/// The reason as the specification names it.
pub fn name(reason: Reject) -> &'static str {
    match reason {
        Reject::LowOrder => "LowOrder",
        Reject::Mac => "Mac",
        Reject::Replay => "Replay",
        Reject::ReplayFull => "ReplayFull",
        Reject::Command => "Command",
        Reject::Reserved => "Reserved",
        Reject::Delay => "Delay",
        Reject::Body => "Body",
    }
}

/// Opens one batch, with a filter that has seen nothing, and says what came of each packet.
pub fn outcomes(packets: &mut [[u8; PACKET_BYTES]], secret: &[u8; 32]) -> Vec<Outcome> {
    let secret = EpochSecret::from_bytes(*secret);
    let mut verdicts = ArrayVec::new();
    let mut jobs: Vec<_> = packets
        .iter_mut()
        .map(|packet| Job {
            packet,
            secret: &secret,
        })
        .collect();
    Engine::new(Lanes::detect(), DELAY_MAX_US).unwrap_batch(
        &mut jobs,
        &mut |_, _| Ok(()),
        &mut verdicts,
    );
    assert_eq!(verdicts.len(), packets.len().min(BATCH_MAX));
    verdicts
        .iter()
        .zip(packets)
        .map(|(verdict, packet)| outcome(*verdict, packet))
        .collect()
}

fn outcome(verdict: Result<Unwrapped, Reject>, packet: &[u8; PACKET_BYTES]) -> Outcome {
    let Unwrapped { command, delay_us } = match verdict {
        Ok(opened) => opened,
        Err(reason) => return Outcome::Rejected(name(reason)),
    };
    let body = packet[HEADER_BYTES..].to_vec();
    match command {
        Command::Forward { next } => Outcome::Forward {
            next,
            delay_us,
            packet: packet.to_vec(),
        },
        Command::Deliver { destination, id } => Outcome::Deliver {
            destination: destination.to_vec(),
            id: id.to_vec(),
            delay_us,
            body,
        },
        Command::Loop { id } => Outcome::Loop {
            id: id.to_vec(),
            delay_us,
            body,
        },
        Command::Drop => Outcome::Drop { delay_us, body },
    }
}

/// The node that the fuzzed packets are for; that of `vectors/rejected.json`.
pub const SECRET: [u8; 32] = [0x42; 32];

/// Makes packets of the input in the way its first byte says, opens them in one batch and holds every outcome
/// against the reference implementation. Says how many packets were accepted.
///
/// | first byte, modulo 4 | the rest is |
/// |---|---|
/// | 0 | packets as they are received, up to a full batch |
/// | 1 | a block of 32 bytes and a body, put under a MAC that holds |
/// | 2 | a mask over a good packet, from the offset in its first two bytes |
/// | 3 | a reply block, to be used |
pub fn check_packets(input: &[u8]) -> usize {
    let Some((kind, rest)) = input.split_first() else {
        return 0;
    };
    let mut packets: Vec<[u8; PACKET_BYTES]> = match kind % 4 {
        0 => rest
            .chunks(PACKET_BYTES)
            .take(BATCH_MAX)
            .map(padded)
            .collect(),
        1 => vec![crafted(
            &padded(rest),
            &padded(rest.get(32..).unwrap_or_default()),
        )],
        2 => vec![masked(rest)],
        _ => {
            let bytes: [u8; SURB_BYTES] = padded(rest);
            let surb = Surb::from_bytes(&bytes);
            assert_eq!(surb.as_bytes(), &bytes);
            let mut packet = [0; PACKET_BYTES];
            surb_use(
                &surb,
                &padded(&rest[rest.len().min(SURB_BYTES)..]),
                &mut packet,
            );
            assert_eq!(packet[..HEADER_BYTES], bytes[6..310]);
            vec![packet]
        }
    };
    let expected: Vec<_> = packets
        .iter()
        .map(|packet| reference::unwrap(&SECRET, packet, DELAY_MAX_US))
        .collect();
    let outcomes = outcomes(&mut packets, &SECRET);
    assert_eq!(outcomes, expected);
    outcomes
        .iter()
        .filter(|outcome| !matches!(outcome, Outcome::Rejected(_)))
        .count()
}

/// The first `N` bytes, zeros behind them if there are fewer.
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let length = bytes.len().min(N);
    out[..length].copy_from_slice(&bytes[..length]);
    out
}

fn crafted(block: &[u8; 32], body: &[u8; BODY_BYTES]) -> [u8; PACKET_BYTES] {
    let (front, rest) = (padded(block), padded(&block[8..]));
    let hop = RawHop {
        public_key: reference::base_multiple(&SECRET),
        ephemeral: [0x77; 32],
        front,
    };
    reference::wrap(&[hop], &rest, &[0x5a; 224], body)
}

fn masked(mask: &[u8]) -> [u8; PACKET_BYTES] {
    let public_key = reference::base_multiple(&SECRET);
    let hops = [
        RawHop {
            public_key,
            ephemeral: [0x11; 32],
            front: reference::front(1, 0, 9, 7),
        },
        RawHop {
            public_key,
            ephemeral: [0x22; 32],
            front: reference::front(2, 0, 9, 0),
        },
    ];
    let mut packet = reference::wrap(&hops, &[0x33; 24], &[0x44; 168], &[0x55; BODY_BYTES]);
    let offset = usize::from(u16::from_le_bytes(padded(mask)));
    let mask = mask.get(2..).unwrap_or_default();
    packet
        .iter_mut()
        .skip(offset)
        .zip(mask)
        .for_each(|(byte, mask)| *byte ^= mask);
    packet
}

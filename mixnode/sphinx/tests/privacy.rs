//! What a packet's bytes give away to a watcher and to a hop: statistics over many packets, from fixed seeds.

mod common;

use common::{Network, open_one, reference, rng};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use sphinx::{HEADER_BYTES, HOPS_MAX, KEM_BYTES, PACKET_BYTES, Terminal, surb_create, wrap};

/// Packets a statistic is taken over.
const PACKETS: usize = 1_500;
/// Standard deviations that count as suspicious. The seeds are fixed, so a pass stays a pass; over the
/// 200,000 or so values looked at here, chance alone exceeds this about once in 50,000 sets of seeds.
const SIGMAS: f64 = 6.5;

/// Counts, for every bit position, how often it was one.
struct BitCounts {
    ones: Vec<u32>,
    samples: u32,
}

impl BitCounts {
    fn new(bytes: usize) -> Self {
        Self {
            ones: vec![0; bytes * 8],
            samples: 0,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for (bit, ones) in self.ones.iter_mut().enumerate() {
            *ones += u32::from(bytes[bit / 8] >> (bit % 8) & 1);
        }
        self.samples += 1;
    }

    /// The bit position that strays furthest from one half, and how far in standard deviations.
    fn worst(&self, skip: impl Fn(usize) -> bool) -> (usize, f64) {
        let samples = f64::from(self.samples);
        (0..self.ones.len())
            .filter(|bit| !skip(*bit))
            .map(|bit| {
                (
                    bit,
                    (f64::from(self.ones[bit]) - samples / 2.0).abs() / (samples / 4.0).sqrt(),
                )
            })
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap()
    }
}

/// How far the distribution of byte values is from uniform, in standard deviations of χ² with 255 degrees.
fn byte_bias(counts: &[u64; 256]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / 256.0;
    let chi_square: f64 = counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2) / expected)
        .sum();
    (chi_square - 255.0).abs() / 510f64.sqrt()
}

/// An X25519 public key is a number below 2^255, in every header alike.
fn is_top_bit_of_the_ciphertext(bit: usize) -> bool {
    bit == KEM_BYTES * 8 - 1
}

fn packet(network: &Network, terminal: &Terminal, rng: &mut ChaCha20Rng) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    wrap(rng, &network.path, terminal, &[0; 896], &mut packet).unwrap();
    packet
}

#[test]
fn what_lies_behind_the_final_block_is_random_whatever_the_path_length() {
    for hops in 1..=HOPS_MAX {
        let network = Network::new(hops, &mut rng(hops as u64));
        let mut rng = rng(100 + hops as u64);
        let mut bits = BitCounts::new(224);
        let mut values = [0; 256];
        for _ in 0..PACKETS {
            let mut packet = packet(&network, &Terminal::Drop, &mut rng);
            for secret in &network.secrets[..hops - 1] {
                open_one(&mut packet, secret).unwrap();
            }
            // All that the last hop can see of the header, with its own keys.
            let (_, plain) = reference::view(&network.bytes[hops - 1], &packet);
            let unused = &plain[32..256];
            assert!(
                !unused.windows(8).any(|window| window == [0; 8]),
                "a run of zeros"
            );
            bits.add(unused);
            unused
                .iter()
                .for_each(|byte| values[usize::from(*byte)] += 1);
        }
        let (bit, sigmas) = bits.worst(|_| false);
        assert!(sigmas < SIGMAS, "{hops} hops: bit {bit} strays by {sigmas}");
        assert!(
            byte_bias(&values) < SIGMAS,
            "{hops} hops: {}",
            byte_bias(&values)
        );
    }
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn the_bytes_on_every_link_are_random_whatever_the_position_and_the_path_length() {
    for hops in 1..=HOPS_MAX {
        let network = Network::new(hops, &mut rng(hops as u64));
        let mut rng = rng(200 + hops as u64);
        let mut links: Vec<_> = (0..hops).map(|_| BitCounts::new(PACKET_BYTES)).collect();
        for _ in 0..PACKETS {
            let mut packet = packet(&network, &Terminal::Drop, &mut rng);
            for (link, secret) in links.iter_mut().zip(&network.secrets) {
                link.add(&packet);
                open_one(&mut packet, secret).unwrap();
            }
        }
        for (position, link) in links.iter().enumerate() {
            let (bit, sigmas) = link.worst(is_top_bit_of_the_ciphertext);
            assert!(
                sigmas < SIGMAS,
                "{hops} hops, link {position}: bit {bit} strays by {sigmas}"
            );
        }
    }
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_reply_block_looks_like_a_packets_header_whatever_its_path_length() {
    for hops in 1..=HOPS_MAX {
        let network = Network::new(hops, &mut rng(hops as u64));
        let mut rng = rng(300 + hops as u64);
        let mut bits = BitCounts::new(HEADER_BYTES);
        for _ in 0..PACKETS {
            let (surb, _) = surb_create(&mut rng, &network.path, 0, [0; 16], [0; 8]).unwrap();
            bits.add(&surb.as_bytes()[6..310]);
        }
        let (bit, sigmas) = bits.worst(is_top_bit_of_the_ciphertext);
        assert!(sigmas < SIGMAS, "{hops} hops: bit {bit} strays by {sigmas}");
    }
}

#[test]
fn a_forwarding_hop_sees_the_same_random_rest_at_every_position_of_every_path() {
    // Behind its own block a hop sees the next header and the zeros it appended, masked: nothing else.
    let mut counts = BitCounts::new(200);
    for hops in 2..=HOPS_MAX {
        let network = Network::new(hops, &mut rng(hops as u64));
        let mut rng = rng(400 + hops as u64);
        for _ in 0..PACKETS / 4 {
            let mut packet = packet(&network, &Terminal::Drop, &mut rng);
            for (secret, bytes) in network.secrets.iter().zip(&network.bytes).take(hops - 1) {
                let (_, plain) = reference::view(bytes, &packet);
                assert_eq!((plain[0], plain[1]), (1, 0));
                counts.add(&plain[56..256]);
                open_one(&mut packet, secret).unwrap();
            }
        }
    }
    let (bit, sigmas) = counts.worst(|_| false);
    assert!(sigmas < SIGMAS, "bit {bit} strays by {sigmas}");
}

#[test]
fn the_statistic_notices_padding_with_zeros() {
    let network = Network::new(3, &mut rng(9));
    let mut rng = rng(10);
    let mut bits = BitCounts::new(224);
    for _ in 0..100 {
        let mut hops: Vec<_> = network
            .path
            .iter()
            .map(|hop| reference::RawHop {
                public_key: hop.public_key,
                ephemeral: [0; 32],
                front: reference::front(1, 0, 0, 0),
            })
            .collect();
        hops.iter_mut()
            .for_each(|hop| rng.fill_bytes(&mut hop.ephemeral));
        hops[2].front = reference::front(4, 0, 0, 0);
        let mut packet = reference::wrap(&hops, &[0; 24], &[0; 112], &[0; 896]);
        for secret in &network.secrets[..2] {
            open_one(&mut packet, secret).unwrap();
        }
        let (_, plain) = reference::view(&network.bytes[2], &packet);
        bits.add(&plain[32..256]);
    }
    let (bit, sigmas) = bits.worst(|_| false);
    assert!(bit < 112 * 8 && sigmas > SIGMAS);
}

#[test]
fn the_same_message_over_the_same_path_never_shows_the_same_bytes_twice() {
    let network = Network::new(3, &mut rng(11));
    let mut rng = rng(12);
    let first = packet(&network, &Terminal::Drop, &mut rng);
    let second = packet(&network, &Terminal::Drop, &mut rng);
    let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    // 1,200 / 256 are expected by chance.
    assert!(equal < 25, "{equal}");
}

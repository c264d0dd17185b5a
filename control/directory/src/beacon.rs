//! The random beacon: what each epoch's layers are dealt by.
//!
//! In each epoch every authority commits to a value in the document and reveals it in the next epoch's vote. A reveal is
//! computed from the authority's key, so nothing is stored and a restart changes nothing; no authority can choose it
//! once its commitment stands in a signed document.

use zeroize::Zeroizing;

use crate::Identity;

const REVEAL: &str = "fogmix reveal v1";
const COMMIT: &str = "fogmix commit v1";
const BEACON: &str = "fogmix beacon v1";
/// What a VRF input begins with.
const LAYERS: &[u8; 16] = b"fogmix layers v1";

/// The value that an authority reveals for `epoch`.
pub fn reveal(authority: &Identity, network: &[u8; 16], epoch: u32) -> [u8; 32] {
    let seed = authority.to_bytes();
    let key = Zeroizing::new(blake3::derive_key(REVEAL, seed.as_slice()));
    let mut hash = blake3::Hasher::new_keyed(&key);
    hash.update(network).update(&epoch.to_be_bytes());
    *hash.finalize().as_bytes()
}

/// The commitment of `authority` to the value that it will reveal for `epoch`.
pub fn commit(authority: &[u8; 32], epoch: u32, reveal: &[u8; 32]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key(COMMIT);
    hash.update(authority)
        .update(&epoch.to_be_bytes())
        .update(reveal);
    *hash.finalize().as_bytes()
}

/// The beacon of `epoch` from the one before and the valid reveals, each with its authority's key. Their order does not
/// count.
pub fn beacon(
    network: &[u8; 16],
    epoch: u32,
    previous: &[u8; 32],
    reveals: &[([u8; 32], [u8; 32])],
) -> [u8; 32] {
    let mut ascending = reveals.to_vec();
    ascending.sort_unstable();
    let mut hash = blake3::Hasher::new_derive_key(BEACON);
    hash.update(network)
        .update(&epoch.to_be_bytes())
        .update(previous);
    for (authority, reveal) in &ascending {
        hash.update(authority).update(reveal);
    }
    *hash.finalize().as_bytes()
}

/// The VRF input α that decides a mix's place in `epoch`; `previous` is the beacon of the document before.
pub fn layer_input(network: &[u8; 16], epoch: u32, previous: &[u8; 32]) -> [u8; 68] {
    let mut input = [0; 68];
    let fields: [&[u8]; 4] = [LAYERS, network, &epoch.to_be_bytes(), previous];
    for (to, from) in input.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: [u8; 16] = [7; 16];

    #[test]
    fn a_reveal_depends_on_key_network_and_epoch_and_on_nothing_else() {
        let (a, b) = (
            Identity::from_bytes(&[1; 32]),
            Identity::from_bytes(&[2; 32]),
        );
        let one = reveal(&a, &NETWORK, 5);
        assert_eq!(one, reveal(&Identity::from_bytes(&[1; 32]), &NETWORK, 5));
        for other in [
            reveal(&b, &NETWORK, 5),
            reveal(&a, &[8; 16], 5),
            reveal(&a, &NETWORK, 6),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_commitment_binds_authority_epoch_and_value() {
        let one = commit(&[1; 32], 5, &[3; 32]);
        for other in [
            commit(&[2; 32], 5, &[3; 32]),
            commit(&[1; 32], 6, &[3; 32]),
            commit(&[1; 32], 5, &[4; 32]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_beacon_takes_every_reveal_in_whatever_order_and_the_one_before() {
        let reveals = [
            ([1; 32], [11; 32]),
            ([2; 32], [12; 32]),
            ([3; 32], [13; 32]),
        ];
        let [a, b, c] = reveals;
        let one = beacon(&NETWORK, 5, &[9; 32], &reveals);
        assert_eq!(one, beacon(&NETWORK, 5, &[9; 32], &[c, a, b]));
        for other in [
            beacon(&NETWORK, 5, &[9; 32], &[a, b]),
            beacon(&NETWORK, 5, &[9; 32], &[a, b, (c.0, [14; 32])]),
            beacon(&NETWORK, 5, &[8; 32], &reveals),
            beacon(&NETWORK, 6, &[9; 32], &reveals),
            beacon(&[8; 16], 5, &[9; 32], &reveals),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_input_of_the_layers_names_network_epoch_and_beacon() {
        let input = layer_input(&NETWORK, 0x0102_0304, &[9; 32]);
        let expected = [LAYERS.as_slice(), &NETWORK, &[1, 2, 3, 4], &[9; 32]].concat();
        assert_eq!(input.as_slice(), expected);
    }
}

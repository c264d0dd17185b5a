//! The gateways that a user's guard is backed by, drawn once, and where the client stands with them.

use std::io;
use std::path::Path;

use directory::{Consensus, Node, pick_gateway, pick_gateway_besides};
use link::ClientKeys;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::disk::{hex, write_atomic};
use super::files;
use super::home::HomeError;
use crate::carrier::{GuardState, Reserves};

/// Reserves of a guard, each of another operator; fewer where there are fewer operators.
const RESERVES: usize = 2;
/// Far more than the file ever has.
const FILE_BYTES_MAX: usize = 4_096;

/// The file `reserves` of a home.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Identities, in the order in which they were drawn.
    reserves: Vec<String>,
    at: usize,
    unserved_s: u64,
}

/// Reserves and state; none before they were drawn.
pub(super) type Kept = (Vec<[u8; 32]>, GuardState);

/// What is stored in `home`.
pub(super) fn read(home: &Path) -> Result<Kept, HomeError> {
    let path = home.join("reserves");
    let invalid = |reason: String| HomeError::Invalid {
        path: path.clone(),
        reason,
    };
    let text = match files::read(&path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(HomeError::Io { path, error }),
    };
    let file: File = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    let reserves: Option<Vec<_>> = file
        .reserves
        .iter()
        .map(|text| files::unhex(text))
        .collect();
    let reserves = reserves.filter(|reserves| reserves.len() <= RESERVES && file.at <= RESERVES);
    let reserves = reserves.ok_or_else(|| invalid("these are no reserves".to_owned()))?;
    let state = GuardState {
        at: file.at,
        unserved_s: file.unserved_s,
    };
    Ok((reserves, state))
}

/// Stores them.
pub(super) fn write(home: &Path, reserves: &[[u8; 32]], state: GuardState) -> io::Result<()> {
    let file = File {
        reserves: reserves.iter().map(|identity| hex(identity)).collect(),
        at: state.at,
        unserved_s: state.unserved_s,
    };
    let text = serde_json::to_vec(&file).map_err(io::Error::other)?;
    write_atomic(&home.join("reserves"), &text, 0o600)
}

/// The guard of a user who joins: the one `wanted` by name, else the first of those `known` before that the network
/// still has, else drawn by weight. Joining again draws nothing anew: whoever could make a user do so would get him at
/// a gateway of his own in the end.
pub(super) fn guard<'a, R: CryptoRng + ?Sized>(
    consensus: &'a Consensus,
    wanted: Option<[u8; 32]>,
    known: &[[u8; 32]],
    rng: &mut R,
) -> Option<&'a Node> {
    match wanted {
        Some(identity) => gateway(consensus, &identity),
        None => known
            .iter()
            .find_map(|identity| gateway(consensus, identity))
            .or_else(|| consensus.node(pick_gateway(consensus, rng).ok()?)),
    }
}

impl Reserves {
    /// Those of a user without a store who receives, drawn as one's who joins with this gateway as the guard; none where
    /// the document does not name that.
    pub fn draw<R: CryptoRng + ?Sized>(
        consensus: &Consensus,
        guard: &[u8; 32],
        rng: &mut R,
    ) -> Self {
        let drawn = gateway(consensus, guard).map(|guard| reserves(consensus, guard, &[], rng));
        let with_keys = |identity| (identity, ClientKeys::generate(rng));
        Self {
            gateways: drawn.into_iter().flatten().map(with_keys).collect(),
            state: GuardState::default(),
            moves: false,
        }
    }
}

/// The reserves of this guard: those `known` before that are still there, and what is missing drawn by weight.
pub(super) fn reserves<R: CryptoRng + ?Sized>(
    consensus: &Consensus,
    guard: &Node,
    known: &[[u8; 32]],
    rng: &mut R,
) -> Vec<[u8; 32]> {
    let mut operators = vec![guard.operator.clone()];
    let mut reserves = Vec::new();
    let mut known = known.iter().filter_map(|one| gateway(consensus, one));
    while reserves.len() < RESERVES {
        let kept = known.find(|node| !operators.contains(&node.operator));
        let node = kept.or_else(|| {
            let drawn = pick_gateway_besides(consensus, rng, &operators)?;
            consensus.node(drawn)
        });
        let Some(node) = node else { break };
        operators.push(node.operator.clone());
        reserves.push(node.identity);
    }
    reserves
}

fn gateway<'a>(consensus: &'a Consensus, identity: &[u8; 32]) -> Option<&'a Node> {
    consensus.find(identity).filter(|node| node.layer == 0)
}

#[cfg(test)]
mod tests {
    use directory::{Head, Identity, LinkKey, Parameters, Record, Role};
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    const PARAMETERS: Parameters = Parameters {
        genesis_unix_ms: 0,
        epoch_ms: 60_000,
        mean_delay_us: 1_000,
        client_rate_pps: 100,
        layers: 1,
    };

    /// Gateways of one weight, each of an operator of its own.
    fn network(gateways: u8) -> Consensus {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let mut nodes: Vec<Record> = (0..gateways)
            .map(|number| {
                let link = link::LinkKeys::generate(rng).public();
                Record {
                    layer: 0,
                    identity: Identity::generate(rng).public(),
                    role: Role::Gateway,
                    operator: format!("operator {number}"),
                    addresses: vec![([10, 0, number, 1], 9).into()],
                    link: LinkKey {
                        x25519: link.x25519,
                        kem: link.kem,
                    },
                    epoch_key: [9; 32],
                    weight: 10,
                    vrf_key: [number; 32],
                    vrf_since: 0,
                    flags: 0,
                    vrf_proof: None,
                }
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.identity);
        Consensus::new(Head::bare(PARAMETERS, 0), nodes).unwrap()
    }

    #[test]
    fn hostile_gateways_that_fill_all_others_get_those_alone_who_drew_them_however_long_it_lasts() {
        const USERS: u32 = 1_000;
        const EPOCHS: u32 = 100;
        let network = network(10);
        let rng = &mut ChaCha20Rng::seed_from_u64(2);
        let all: Vec<[u8; 32]> = network.gateways().map(|node| node.identity).collect();
        for hostile_count in [1, 2, 3] {
            let hostile = all.get(..hostile_count).unwrap();
            let (mut guards, mut reserved, mut again, mut drawn) = (0, 0, 0, 0);
            for _ in 0..USERS {
                let first = guard(&network, None, &[], rng).unwrap();
                let reserves = reserves(&network, first, &[], rng);
                let mut known = vec![first.identity];
                known.extend(&reserves);
                guards += u32::from(hostile.contains(&first.identity));
                // All others are full for more than an hour, in each epoch: a sender is at a hostile reserve in the end.
                reserved += u32::from(known.iter().any(|one| hostile.contains(one)));
                // A user who joins again, each epoch.
                let mut at = first.identity;
                for _ in 0..EPOCHS {
                    if !hostile.contains(&at) {
                        at = guard(&network, None, &known, rng).unwrap().identity;
                    }
                }
                again += u32::from(hostile.contains(&at));
                // What drawing anew would have come to.
                let anew = |_| all[(rng.next_u64() % 10) as usize];
                drawn += u32::from((0..EPOCHS).map(anew).any(|one| hostile.contains(&one)));
            }
            println!(
                "{hostile_count} of 10 gateways hostile, {EPOCHS} epochs, of {USERS} users at one of them: by their \
                 guard {guards}, after joining again each epoch {again}, ever by guard or reserve {reserved}; by drawing \
                 anew each epoch {drawn}"
            );
            assert_eq!(guards, again);
            // 1 - C(10 - h, 3) / C(10, 3), and h / 10, each with five standard deviations.
            let share = |count: u32| f64::from(count) / f64::from(USERS);
            let h = hostile_count as f64;
            let ever = 1.0 - (10.0 - h) * (9.0 - h) * (8.0 - h) / 720.0;
            assert!((share(guards) - h / 10.0).abs() < 0.08, "{guards}");
            assert!((share(reserved) - ever).abs() < 0.08, "{reserved}");
        }
    }

    #[test]
    fn a_gateway_without_others_of_other_operators_has_no_reserves() {
        let rng = &mut ChaCha20Rng::seed_from_u64(3);
        for (gateways, count) in [(1, 0), (2, 1), (3, 2), (9, 2)] {
            let network = network(gateways);
            let guard = guard(&network, None, &[], rng).unwrap();
            assert_eq!(reserves(&network, guard, &[], rng).len(), count);
        }
    }

    #[test]
    fn what_is_stored_is_read_again_and_nothing_is_drawn_for_a_file_that_is_damaged() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read(home.path()).unwrap(), Kept::default());
        let state = GuardState {
            at: 2,
            unserved_s: 3_599,
        };
        write(home.path(), &[[1; 32], [0xab; 32]], state).unwrap();
        let found = read(home.path()).unwrap();
        assert_eq!(found, (vec![[1; 32], [0xab; 32]], state));
        for damaged in [
            "",
            "{}",
            r#"{"reserves":["12"],"at":0,"unserved_s":0}"#,
            r#"{"reserves":[],"at":3,"unserved_s":0}"#,
            r#"{"reserves":[],"at":0,"unserved_s":0,"more":1}"#,
        ] {
            std::fs::write(home.path().join("reserves"), damaged).unwrap();
            let error = read(home.path()).unwrap_err();
            assert!(matches!(error, HomeError::Invalid { .. }), "{damaged}");
        }
    }
}

//! The consensus documents that a client holds.

use std::collections::BTreeMap;

use directory::{Consensus, Node, Parameters};

/// Documents kept: the next epoch's, this one's, and those before whose reply blocks may still travel.
pub(crate) const DOCUMENTS_MAX: usize = 4;

/// Documents by epoch, never none. Which one counts is asked by the number of an epoch: in the second half of an epoch
/// the newest one is not in force yet, and nothing can be wrapped with it.
#[derive(Clone)]
pub struct Documents {
    by_epoch: BTreeMap<u32, Consensus>,
    parameters: Parameters,
}

impl From<Consensus> for Documents {
    fn from(consensus: Consensus) -> Self {
        Self {
            parameters: *consensus.parameters(),
            by_epoch: BTreeMap::from([(consensus.epoch(), consensus)]),
        }
    }
}

impl Documents {
    /// Adds a verified document; of too many, those of the lowest epochs go.
    pub fn insert(&mut self, consensus: Consensus) {
        self.parameters = *consensus.parameters();
        self.by_epoch.insert(consensus.epoch(), consensus);
        while self.by_epoch.len() > DOCUMENTS_MAX {
            self.by_epoch.pop_first();
        }
    }

    /// The highest epoch of which there is one.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.by_epoch.keys().next_back().copied()
    }

    /// What the network agreed on, as the document says that was taken last.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The number of the epoch at this time.
    pub(crate) fn epoch_at(&self, unix_ms: u64) -> u32 {
        self.parameters.epoch_at(unix_ms)
    }

    /// The document of this epoch.
    pub fn of(&self, epoch: u32) -> Option<&Consensus> {
        self.by_epoch.get(&epoch)
    }

    /// The document to wrap with at this time: this epoch's, or while that is on the way the one before, whose keys
    /// hold.
    pub(crate) fn live(&self, unix_ms: u64) -> Option<&Consensus> {
        let now = self.epoch_at(unix_ms);
        self.of(now).or_else(|| self.of(now.checked_sub(1)?))
    }

    /// Where to reach a node at this time, as the document of the nearest epoch says that names it.
    pub(crate) fn find(&self, identity: &[u8; 32], unix_ms: u64) -> Option<&Node> {
        let now = self.epoch_at(unix_ms);
        let named = self.by_epoch.iter().filter_map(|(epoch, consensus)| {
            let node = consensus.find(identity)?;
            Some((epoch.abs_diff(now), node))
        });
        named
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, node)| node)
    }
}

#[cfg(test)]
mod tests {
    use authority::Authority;
    use directory::{Descriptor, EpochKey, LinkKey, Role};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const EPOCH_MS: u64 = 60_000;

    const PARAMETERS: Parameters = Parameters {
        genesis_unix_ms: 0,
        epoch_ms: EPOCH_MS,
        mean_delay_us: 1_000,
        client_rate_pps: 100,
        layers: 1,
    };

    /// A document in which nobody is.
    fn consensus(epoch: u32) -> Consensus {
        Consensus::new(PARAMETERS, epoch, [0; 32], Vec::new()).unwrap()
    }

    fn documents(epochs: &[u32]) -> Documents {
        let mut documents = Documents::from(consensus(epochs[0]));
        for epoch in &epochs[1..] {
            documents.insert(consensus(*epoch));
        }
        documents
    }

    #[test]
    fn what_is_wrapped_with_is_this_epochs_document_or_the_one_before_and_never_a_newer_one() {
        for (held, live) in [
            (&[7, 8][..], Some(7)),
            (&[8, 7], Some(7)),
            (&[6, 8], Some(6)),
            (&[8], None),
            (&[5, 8], None),
        ] {
            let documents = documents(held);
            let found = documents.live(7 * EPOCH_MS + 1).map(Consensus::epoch);
            assert_eq!(found, live, "{held:?}");
        }
    }

    #[test]
    fn a_node_is_where_the_document_of_the_nearest_epoch_says_that_names_it() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let identity = directory::Identity::generate(&mut rng);
        let authority = directory::Identity::generate(&mut rng);
        let authority = Authority::new(authority, PARAMETERS).unwrap();
        let link = link::LinkKeys::generate(&mut rng).public();
        let named_in = |epoch: u32| {
            let node = Descriptor {
                identity: identity.public(),
                role: Role::Gateway,
                operator: "operator".to_owned(),
                addresses: vec![([10, 0, 0, epoch as u8], 9).into()],
                link: LinkKey {
                    x25519: link.x25519,
                    kem: link.kem.clone(),
                },
                epoch_keys: vec![EpochKey {
                    epoch,
                    public_key: [9; 32],
                }],
                capacity_pps: 1,
                vrf_key: [1; 32],
                vrf_proof: None,
                published_unix_ms: 1,
            };
            let signed = authority.sign(epoch, [node]).unwrap();
            let authorities = authority.authorities().unwrap();
            signed.verify(&authorities, None).unwrap()
        };
        for (held, nearest) in [(&[2, 3][..], 3), (&[9, 3], 9), (&[8, 2], 8), (&[6, 8], 6)] {
            let mut documents = Documents::from(consensus(7));
            for epoch in held {
                documents.insert(named_in(*epoch));
            }
            let found = documents.find(&identity.public(), 7 * EPOCH_MS);
            let address = found.unwrap().addresses[0];
            assert_eq!(address, ([10, 0, 0, nearest], 9).into(), "{held:?}");
        }
    }

    #[test]
    fn of_too_many_documents_the_oldest_go() {
        let documents = documents(&[9, 1, 10, 2, 3, 11]);
        let held: Vec<u32> = documents.by_epoch.keys().copied().collect();
        assert_eq!(held, [3, 9, 10, 11]);
    }
}

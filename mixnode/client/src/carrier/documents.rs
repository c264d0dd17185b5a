//! The consensus documents that a client holds.

use std::collections::BTreeMap;

use directory::{Chain, Consensus, Held, Node, Parameters, SignedConsensus, VerifyError};
use rand_core::CryptoRng;

/// Documents kept: the next epoch's, this one's, and those before whose reply blocks may still travel.
pub(crate) const DOCUMENTS_MAX: usize = 4;

/// Why bytes are not the document that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// They name an authority set that is newer than all that are known.
    Unknown,
    /// They break a rule.
    Forged,
}

/// Documents by epoch, never none. Which one counts is asked by the number of an epoch: in the second half of an epoch
/// the newest one is not in force yet, and nothing can be wrapped with it.
#[derive(Clone)]
pub struct Documents {
    by_epoch: BTreeMap<u32, Consensus>,
    parameters: Parameters,
    /// Makes the moments of this client its own.
    seed: [u8; 32],
    /// The newest epoch that enough gateways said has no document.
    missing: Option<u32>,
}

impl From<Consensus> for Documents {
    fn from(consensus: Consensus) -> Self {
        Self {
            parameters: *consensus.parameters(),
            by_epoch: BTreeMap::from([(consensus.epoch(), consensus)]),
            seed: [0; 32],
            missing: None,
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

    /// The document of `epoch` in these bytes, if they are one that `authorities` signed, that is right in all that can
    /// be computed again, and that does not contradict those held.
    ///
    /// # Errors
    /// They are not; whether further authorities could prove it.
    pub(crate) fn verify(
        &self,
        document: &[u8],
        epoch: u32,
        authorities: &Chain,
    ) -> Result<Consensus, Unfit> {
        let documents: Vec<&Consensus> = self.by_epoch.values().collect();
        let held = Held {
            documents: &documents,
            ..Held::default()
        };
        let newest = authorities.sets().last().map(|set| set.set().generation);
        let signed = SignedConsensus::decode(document).map_err(|_| Unfit::Forged)?;
        let verified = signed.verify(authorities, &held);
        match verified {
            Ok(consensus) if consensus.epoch() == epoch => Ok(consensus),
            Err(VerifyError::Generation(generation)) if Some(generation) > newest => {
                Err(Unfit::Unknown)
            }
            _ => Err(Unfit::Forged),
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

    /// The same documents in the hands of one client, whose moments nobody else can tell.
    pub(crate) fn of_one_client<R: CryptoRng + ?Sized>(mut self, rng: &mut R) -> Self {
        rng.fill_bytes(&mut self.seed);
        self
    }

    /// When this client goes over to `epoch`: a moment of its own in the span that the network has for it, Unix ms.
    pub(crate) fn turns_ms(&self, epoch: u32) -> u64 {
        self.moment_ms(epoch, &[])
    }

    /// A moment of that span that `whose` has for itself: from one's nobody can tell another's.
    fn moment_ms(&self, epoch: u32, whose: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&epoch.to_le_bytes()).update(whose);
        let mut draw = [0; 8];
        hasher.finalize_xof().fill(&mut draw);
        let spread_ms = self.parameters.turn_spread_ms();
        self.parameters.epoch_starts_ms(epoch) + u64::from_le_bytes(draw) % (spread_ms + 1)
    }

    /// The document to wrap everything with at this time: this epoch's from the client's own moment on, until then the
    /// one before. While there is none of this epoch, the one before is used only if that is
    /// [known](Documents::set_missing), and not so late that packets would come too late.
    pub(crate) fn live(&self, unix_ms: u64) -> Option<&Consensus> {
        let now = self.epoch_at(unix_ms);
        let before = now.checked_sub(1).and_then(|before| self.of(before));
        match self.of(now) {
            Some(consensus) if unix_ms >= self.turns_ms(now) => Some(consensus),
            Some(consensus) => before.or(Some(consensus)),
            None => {
                let arrives_ms = unix_ms.saturating_add(self.parameters.travel_ms());
                let in_time = arrives_ms <= self.parameters.epoch_ends_ms(now);
                before.filter(|_| self.missing == Some(now) && in_time)
            }
        }
    }

    /// What a conversation shows of epochs at this time: the document of the one that it names and makes reply blocks of,
    /// and at a turn of epochs that of the other one. Who answers goes over at a moment of his own, and needs reply
    /// blocks of both from before the earliest such moment until after the last: here from a round before it on.
    ///
    /// All of this follows a moment that the conversation has for itself. With one moment for all, or with that of the
    /// packets, two correspondents who put together what they see would know that they speak with the same client.
    pub(crate) fn of_conversation(
        &self,
        conversation: &[u8; 16],
        unix_ms: u64,
    ) -> Option<(&Consensus, Option<&Consensus>)> {
        let live = self.live(unix_ms)?;
        let now = self.epoch_at(unix_ms);
        let Some(this) = self.of(now) else {
            return Some((live, None));
        };
        let parameters = &self.parameters;
        let (round_ms, spread_ms) = (parameters.round_ms(), parameters.turn_spread_ms());
        let turned_ms = self.moment_ms(now, conversation);
        if let Some(before) = now.checked_sub(1).and_then(|before| self.of(before))
            && unix_ms < turned_ms.saturating_add(spread_ms)
        {
            return Some(match unix_ms < turned_ms {
                true => (before, Some(this)),
                false => (this, Some(before)),
            });
        }
        let next = now.checked_add(1)?;
        let ahead_ms = spread_ms + round_ms + parameters.travel_ms();
        let is_near = unix_ms >= self.moment_ms(next, conversation).saturating_sub(ahead_ms);
        Some((this, self.of(next).filter(|_| is_near)))
    }

    /// Enough gateways said that there is no document of `epoch`.
    pub(crate) fn set_missing(&mut self, epoch: u32) {
        self.missing = Some(epoch);
    }

    /// Whether the document of `epoch` is not here, and it is not known that there is none.
    pub(crate) fn is_in_doubt(&self, epoch: u32) -> bool {
        self.of(epoch).is_none() && self.missing != Some(epoch)
    }

    /// The document of the nearest epoch.
    pub(crate) fn nearest(&self, unix_ms: u64) -> Option<&Consensus> {
        let now = self.epoch_at(unix_ms);
        let held = self.by_epoch.iter();
        let nearest = held.min_by_key(|(epoch, _)| epoch.abs_diff(now));
        nearest.map(|(_, consensus)| consensus)
    }

    /// Whether the document that counts at this time leaves out this gateway. Without one nobody can tell.
    pub(crate) fn leaves_out(&self, gateway: &[u8; 32], unix_ms: u64) -> bool {
        let live = self.live(unix_ms);
        live.is_some_and(|consensus| consensus.find(gateway).is_none())
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
    use directory::{Head, LinkKey, Record, Role};
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
        Consensus::new(Head::bare(PARAMETERS, epoch), Vec::new()).unwrap()
    }

    fn documents(epochs: &[u32]) -> Documents {
        let mut documents = Documents::from(consensus(epochs[0]));
        for epoch in &epochs[1..] {
            documents.insert(consensus(*epoch));
        }
        documents
    }

    #[test]
    fn what_is_wrapped_with_is_this_epochs_document_and_the_one_before_only_if_there_is_none() {
        for (held, live, without) in [
            (&[7, 8][..], Some(7), Some(7)),
            (&[8, 7], Some(7), Some(7)),
            (&[6, 8], None, Some(6)),
            (&[8], None, None),
            (&[5, 8], None, None),
        ] {
            let mut documents = documents(held);
            let unix_ms = 7 * EPOCH_MS + EPOCH_MS / 2;
            let found = documents.live(unix_ms).map(Consensus::epoch);
            assert_eq!(found, live, "{held:?}, on one gateway's word");
            documents.set_missing(6);
            assert_eq!(documents.live(unix_ms).map(Consensus::epoch), live);
            documents.set_missing(7);
            let found = documents.live(unix_ms).map(Consensus::epoch);
            assert_eq!(found, without, "{held:?}, on enough gateways' word");
            let late_ms = 8 * EPOCH_MS - PARAMETERS.travel_ms() + 1;
            let found = documents.live(late_ms).map(Consensus::epoch);
            assert_eq!(found, live, "{held:?}, so late that nothing would arrive");
        }
    }

    #[test]
    fn each_client_goes_over_to_a_new_epoch_at_a_moment_of_its_own() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (start_ms, spread_ms) = (7 * EPOCH_MS, PARAMETERS.turn_spread_ms());
        let turns: Vec<u64> = (0..400)
            .map(|_| {
                let documents = documents(&[6, 7]).of_one_client(&mut rng);
                let of_before = |at: &u64| documents.live(*at).map(Consensus::epoch) == Some(6);
                let span = start_ms..=start_ms + spread_ms + 1;
                let count = span.filter(of_before).count() as u64;
                assert!(!of_before(&(start_ms + count)), "one turn");
                count
            })
            .collect();
        assert!(turns.iter().all(|after_ms| *after_ms <= spread_ms));
        for quarter in 0..4 {
            let range = spread_ms * quarter / 4..spread_ms * (quarter + 1) / 4;
            let within = turns.iter().filter(|at| range.contains(*at)).count();
            assert!((60..=140).contains(&within), "{quarter}: {within}");
        }
        // With nothing to use before it, it is used at once.
        let documents = documents(&[7]).of_one_client(&mut rng);
        assert_eq!(documents.live(start_ms).map(Consensus::epoch), Some(7));
    }

    #[test]
    fn a_node_is_where_the_document_of_the_nearest_epoch_says_that_names_it() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let identity = directory::Identity::generate(&mut rng);
        let link = link::LinkKeys::generate(&mut rng).public();
        let named_in = |epoch: u32| {
            let node = Record {
                layer: 0,
                identity: identity.public(),
                role: Role::Gateway,
                operator: "operator".to_owned(),
                addresses: vec![([10, 0, 0, epoch as u8], 9).into()],
                link: LinkKey {
                    x25519: link.x25519,
                    kem: link.kem.clone(),
                },
                epoch_key: [9; 32],
                weight: 1,
                vrf_key: [1; 32],
                vrf_since: epoch,
                flags: 0,
                vrf_proof: None,
            };
            Consensus::new(Head::bare(PARAMETERS, epoch), vec![node]).unwrap()
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

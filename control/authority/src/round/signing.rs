//! Signatures over a document that is made: the own one, the others', and whether they are enough.

use std::cmp::Ordering;

use directory::store::hex;
use directory::{ConsensusSignature, SignedConsensus};

use super::action::shown;
use super::{Action, Message, Newest, News, Record, Refusal, Rounds, SENT, round_ms};

impl Rounds {
    /// The digest stands on the disk: now it is signed.
    pub fn recorded(&mut self, record: Record) -> Vec<Action> {
        let mut actions = Vec::new();
        if self
            .record
            .is_some_and(|held| held.epoch >= record.epoch && held != record)
        {
            return actions;
        }
        self.record = Some(record);
        let parameters = *self.parameters();
        let Some(making) = &mut self.making else {
            return actions;
        };
        let Some(ours) = making
            .ours
            .as_ref()
            .filter(|ours| ours.digest() == &record.digest)
        else {
            return actions;
        };
        let own = ConsensusSignature::sign(ours, &self.key);
        making.signatures.insert(own.authority, vec![own]);
        let start_ms = parameters.epoch_starts_ms(making.epoch.saturating_sub(1));
        if making.authorities.keys().len() > 1 {
            actions.push(Action::Send {
                message: Message::Signature(own.encode()),
                until_ms: start_ms + SENT * round_ms(&parameters),
                every_ms: round_ms(&parameters) / 4,
            });
        }
        self.publish_if_signed(&mut actions);
        actions
    }

    /// The digest could not be written down, so it is not signed here. Where others sign, their document counts here too; a
    /// lone authority makes its document again a round later.
    pub fn unrecorded(&mut self, record: Record) {
        if let Some(making) = &mut self.making
            && making.epoch == record.epoch
            && making.authorities.keys().len() == 1
        {
            making.ours = None;
        }
    }

    /// Another authority's signature, `FXG1`.
    ///
    /// # Errors
    /// It does not count.
    pub fn signature(&mut self, bytes: &[u8]) -> Result<Vec<Action>, Refusal> {
        let one = ConsensusSignature::decode(bytes).map_err(|_| Refusal::Malformed)?;
        let parameters = *self.parameters();
        let network = *self.chain.network();
        let making = self.making.as_mut().ok_or(Refusal::Early)?;
        match one.epoch.cmp(&making.epoch) {
            Ordering::Greater => return Err(Refusal::Early),
            Ordering::Less => return Err(Refusal::Epoch),
            Ordering::Equal => {}
        }
        if making
            .authorities
            .keys()
            .binary_search(&one.authority)
            .is_err()
        {
            return Err(Refusal::Unknown);
        }
        if !one.holds(&network) {
            return Err(Refusal::Signature);
        }
        let mut actions = Vec::new();
        let held = making.signatures.entry(one.authority).or_default();
        if held.len() >= 2 || held.iter().any(|held| held.digest == one.digest) {
            return Ok(actions);
        }
        held.push(one);
        let start_ms = parameters.epoch_starts_ms(making.epoch.saturating_sub(1));
        let pass_on = |bytes: &[u8]| Action::Send {
            message: Message::Signature(bytes.to_vec()),
            until_ms: start_ms + SENT * round_ms(&parameters),
            every_ms: round_ms(&parameters) / 4,
        };
        if let [first, second] = held.as_slice() {
            let two = [first.encode(), second.encode()];
            actions.push(pass_on(bytes));
            actions.extend(shown(one.epoch, one.authority, "documents", two));
        } else if let Some(ours) = &making.ours
            && *ours.digest() != one.digest
        {
            actions.push(pass_on(bytes));
            actions.push(Action::Tell(News::OtherDigest {
                epoch: one.epoch,
                author: hex(&one.authority),
                theirs: hex(&one.digest),
                ours: hex(ours.digest()),
            }));
        }
        self.publish_if_signed(&mut actions);
        Ok(actions)
    }

    pub(super) fn publish_if_signed(&mut self, actions: &mut Vec<Action>) {
        let Some(making) = &mut self.making else {
            return;
        };
        let Some(ours) = making.ours.as_ref().filter(|_| !making.published) else {
            return;
        };
        // Of who signed two documents none counts.
        let valid = making
            .signatures
            .values()
            .filter_map(|signed| match signed.as_slice() {
                [one] if one.digest == *ours.digest() => Some(one),
                _ => None,
            });
        let valid: Vec<&ConsensusSignature> = valid.collect();
        if valid.len() < making.authorities.quorum() {
            return;
        }
        let signed = SignedConsensus::gathered(ours, valid.iter().copied());
        making.published = true;
        actions.push(Action::Tell(News::Published {
            epoch: making.epoch,
            signatures: valid.len(),
            nodes: ours.nodes().len(),
        }));
        let consensus = ours.clone();
        self.hold(Newest { consensus, signed }, actions);
    }
}

//! One file on its way out, and what was heard of its recipient.

use std::time::Instant;

use super::control::Order;
use super::lookout::{Lookout, Seen, Wait, short, unix_s};
use super::run::{Progress, Quantiles, RunError, SendSummary};
use crate::address::Address;
use crate::carrier::Documents;
use crate::client::Client;
use crate::event::Event;
use crate::store::SentFile;
use crate::store::home::{Home, HomeError, Journal};
use crate::transfer::{Failure, Manifest, Phase, TransferId};

/// A file that a client sends.
pub(super) struct Transit {
    pub(super) transfer: TransferId,
    address: Address,
    bytes: u64,
    hash: [u8; 32],
    keeps_journal: bool,
    started: Instant,
    lookout: Lookout,
    /// The recipient's last answer, none yet, and since when there was none.
    answered: (Option<u64>, Instant),
    acknowledged: u32,
    /// Transfers of what the file was before it changed.
    earlier: Vec<TransferId>,
    /// The recipient said that there is no room, when so many chunks were there: it holds until there are more, for whoever
    /// has no room is tried again and again.
    no_room: Option<u32>,
    /// How far it is.
    pub(super) progress: Option<Progress>,
}

impl Transit {
    /// The transfer that this order goes on with, or a new one.
    ///
    /// # Errors
    /// No random numbers.
    pub(super) fn journal(home: &Home, order: &Order) -> Result<Journal, RunError> {
        let mut journal = Journal {
            transfer: [0; 16],
            address: order.address.clone(),
            file: order.file.clone(),
            hash: order.hash,
        };
        if let Some(found) = home.find_journal(&journal).0 {
            return Ok(found);
        }
        getrandom::fill(&mut journal.transfer).map_err(RunError::Random)?;
        Ok(journal)
    }

    /// Starts to send what `order` says, whose file is `source`.
    ///
    /// # Errors
    /// The journal can't be written.
    pub(super) fn start(
        home: &Home,
        client: &mut Client,
        (journal, address, order): (&Journal, Address, Order),
        source: SentFile,
    ) -> Result<Self, RunError> {
        home.save_journal(journal).map_err(|error| HomeError::Io {
            path: home.path().to_owned(),
            error,
        })?;
        let (bytes, hash) = source.measured();
        let manifest = Manifest {
            transfer: journal.transfer,
            size: bytes,
            hash,
            name: order.name,
        };
        let key = home.cached_key(&address.kem_hash);
        client.send(address, manifest, Box::new(source), key);
        let earlier = home.find_journal(journal).1;
        let earlier: Vec<TransferId> = earlier.iter().map(|old| old.transfer).collect();
        client.give_up(&journal.transfer, &earlier);
        let started = Instant::now();
        Ok(Self {
            transfer: journal.transfer,
            address,
            bytes,
            hash,
            keeps_journal: order.keeps_journal,
            started,
            lookout: Lookout::default(),
            answered: (None, started),
            acknowledged: 0,
            earlier,
            no_room: None,
            progress: None,
        })
    }

    /// Something happened: how far the file is now, if it is about this one.
    pub(super) fn on_event(&mut self, event: &Event) -> Option<Progress> {
        match event {
            Event::Key { hash, .. } if *hash == self.address.kem_hash => {
                self.answered = (Some(unix_s()), Instant::now());
                None
            }
            Event::Sending {
                transfer,
                phase,
                chunks,
                total,
                loss,
            } if *transfer == self.transfer => {
                // Nobody was asked for anything while it was looked at the file.
                if self.is_in(&Phase::Checking) {
                    self.answered.1 = Instant::now();
                }
                let flows = matches!(phase, Phase::Sending | Phase::Paused)
                    && !self.is_in(&Phase::Checking);
                if *chunks > self.acknowledged || flows {
                    self.answered = (Some(unix_s()), Instant::now());
                    self.acknowledged = *chunks;
                }
                match phase {
                    Phase::Paused => self.no_room = Some(*chunks),
                    _ => self.no_room = self.no_room.filter(|before| chunks <= before),
                }
                self.progress = Some(Progress {
                    phase: phase.clone(),
                    chunks: *chunks,
                    total: *total,
                    size: self.bytes,
                    loss: *loss,
                });
                self.progress.clone()
            }
            _ => None,
        }
    }

    /// What is to be told of its waiting; `seen` without a recipient.
    pub(super) fn look(&mut self, documents: &Documents, mut seen: Seen) -> Option<Option<Wait>> {
        let gateway = &self.address.gateway;
        let is_unknown = documents.leaves_out(gateway, unix_s() * 1_000);
        seen.recipient_gateway = is_unknown.then(|| short(gateway));
        // One without room has said so, and is asked now and then.
        if !self.is_in(&Phase::Paused) && !self.is_in(&Phase::Checking) {
            seen.recipient = Some((self.answered.0, self.answered.1.elapsed()));
        }
        seen.has_no_room = self.no_room.is_some();
        self.lookout.look(self.started.elapsed(), &seen)
    }

    fn is_in(&self, phase: &Phase) -> bool {
        let progress = self.progress.as_ref();
        progress.is_some_and(|progress| progress.phase == *phase)
    }

    /// What was told last and still holds.
    pub(super) fn told(&self) -> Option<&Wait> {
        self.lookout.told()
    }

    /// Whether the recipient has anything of it.
    pub(super) fn is_under_way(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| progress.chunks > 0)
    }

    /// What became of it, once it is over.
    pub(super) fn outcome(
        &self,
        home: &Home,
        client: &Client,
    ) -> Option<Result<SendSummary, Failure>> {
        let phase = self.progress.as_ref().map(|progress| &progress.phase)?;
        let failure = match phase {
            Phase::Complete => None,
            Phase::Failed(failure) => Some(failure.clone()),
            _ => return None,
        };
        if failure.is_none() {
            let earlier = self.earlier.iter();
            earlier.for_each(|transfer| home.remove_journal(transfer));
        }
        // What the recipient has of a file that changed he is told to remove when the file is sent again.
        if failure
            .as_ref()
            .map_or(!self.keeps_journal, |why| *why != Failure::Changed)
        {
            home.remove_journal(&self.transfer);
        }
        if let Some(failure) = failure {
            return Some(Err(failure));
        }
        let stats = client.transfer_stats(&self.transfer).cloned();
        let stats = stats.unwrap_or_default();
        let trip = &stats.round_trip;
        Some(Ok(SendSummary {
            transfer: self.transfer,
            bytes: self.bytes,
            hash: self.hash,
            packets: stats.packets,
            retransmitted: stats.retransmitted,
            loss: stats.loss,
            duration: self.started.elapsed(),
            round_trip_ms: (trip.count() > 0).then(|| Quantiles {
                p50: trip.quantile_ms(0.5),
                p99: trip.quantile_ms(0.99),
            }),
        }))
    }
}

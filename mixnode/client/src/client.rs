//! The client without its sockets, clock and disk: a carrier, and the services that use it.

use std::net::SocketAddr;

use directory::Chain;
use link::{ClientKeys, DATAGRAM_BYTES};
use sphinx::Generator;

use crate::address::Address;
use crate::carrier::{
    Carrier, Departures, Documents, Gone, Reserves, Service, Settings, Stats, Supply,
};
use crate::event::{Event, Less};
use crate::identity::{Identity, KEM_KEY_BYTES};
#[cfg(any(test, feature = "probe"))]
use crate::probe::Probes;
use crate::store::{Source, Storage};
use crate::transfer::{Failure, Manifest, Phase, TransferId, TransferStats, Transfers};

/// The slowest a client may be, slots a second.
const RATE_MIN_PPS: f64 = 0.001;

/// What a client is made of.
pub struct Config {
    /// End-to-end keys.
    pub identity: Identity,
    /// Mailbox key at the gateway.
    pub mailbox: ClientKeys,
    /// Ed25519 identity of the gateway.
    pub gateway: [u8; 32],
    /// Whose consensus to believe.
    pub authorities: Chain,
    /// Slots a second, 0.001 at least; the network's rate if `None`.
    pub rate_pps: Option<f64>,
    /// Share of slots for loop cover, 0 to 1.
    pub loop_share: f64,
}

/// The client. Drive it with [`Client::transmit`] at [`Client::deadline`] and [`Client::receive`]; [`crate::run`] gives
/// the departures a thread of their own.
pub struct Client {
    carrier: Carrier,
    /// What leaves, unless it was handed out.
    departures: Option<Departures>,
    transfers: Transfers,
    #[cfg(any(test, feature = "probe"))]
    probes: Probes,
}

/// Services that a client has.
const SERVICES: usize = 1 + cfg!(any(test, feature = "probe")) as usize;

impl Client {
    /// A client that knows these `documents` and starts its Poisson process at `now_ns`. It takes what others send into
    /// its `storage`; without one it only sends, and whoever has its address learns nothing of it.
    pub fn new(
        config: Config,
        documents: impl Into<Documents>,
        storage: Option<Box<dyn Storage>>,
        rng: Generator,
        now_ns: u64,
    ) -> Self {
        let documents = documents.into();
        let parameters = *documents.parameters();
        let settings = Settings {
            mailbox: config.mailbox,
            gateway: config.gateway,
            authorities: config.authorities,
            rate_pps: config
                .rate_pps
                .unwrap_or(f64::from(parameters.client_rate_pps))
                .max(RATE_MIN_PPS),
            loop_share: config.loop_share,
        };
        let (carrier, departures) = Carrier::new(settings, documents, rng, now_ns);
        Self {
            carrier,
            departures: Some(departures),
            transfers: Transfers::new(config.identity, storage, &parameters),
            #[cfg(any(test, feature = "probe"))]
            probes: Probes::default(),
        }
    }

    /// Gives it reserves beside its gateway, which is its guard; to be called before its first slot. Without them it
    /// never leaves its gateway.
    pub fn set_reserves(&mut self, reserves: Reserves) {
        self.carrier.set_reserves(reserves);
    }

    /// The carrier and all that uses it. A new service is a field of [`Client`] and a place in this list.
    fn parts(&mut self) -> (&mut Carrier, [&mut dyn Service; SERVICES]) {
        let services = [
            &mut self.transfers as &mut dyn Service,
            #[cfg(any(test, feature = "probe"))]
            &mut self.probes,
        ];
        (&mut self.carrier, services)
    }

    /// When to call [`Client::transmit`] next: the next slot, or a service's own deadline before it.
    pub fn deadline(&self) -> u64 {
        let slot_ns = self.departures.as_ref().map(Departures::slot_ns);
        let service_ns = self.transfers.deadline();
        slot_ns
            .into_iter()
            .chain(service_ns)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Hands out the departures, for a thread of their own: it sends, and this client is told what became of its
    /// supplies and refills them.
    pub(crate) fn take_departures(&mut self) -> Option<Departures> {
        self.carrier.supply_ahead();
        self.departures.take()
    }

    /// What the departures are to have, oldest first.
    pub(crate) fn supply(&mut self) -> Option<Supply> {
        self.carrier.supply()
    }

    /// What has become of the supplies, up to `now_ns`.
    pub(crate) fn departed(&mut self, gone: Gone, now_ns: u64) {
        self.carrier.departed(gone, now_ns);
    }

    /// What happened next, oldest first.
    pub fn event(&mut self) -> Option<Event> {
        let event = self.carrier.events.pop_front();
        event.or_else(|| self.transfers.event())
    }

    /// Counts so far.
    pub fn stats(&self) -> &Stats {
        &self.carrier.stats
    }

    /// Counts of a transfer that this client sends.
    pub fn transfer_stats(&self, transfer: &TransferId) -> Option<&TransferStats> {
        let outgoing = self.transfers.outgoing(transfer);
        outgoing.map(|outgoing| &outgoing.stats)
    }

    /// The documents that it holds.
    pub fn documents(&self) -> &Documents {
        self.carrier.documents()
    }

    /// Whether the gateway has answered the attachment.
    pub fn is_attached(&self) -> bool {
        self.carrier.is_attached()
    }

    /// When something last came that nobody can have made but the gateway, or who sees what is sent to it, if ever: on the
    /// clock of [`Self::receive`].
    pub fn answered_ns(&self) -> Option<u64> {
        self.carrier.answered_ns()
    }

    /// Which epoch it is by the gateway's clock, modulo 4, as its last frame says.
    pub fn gateway_epoch_bits(&self) -> Option<u8> {
        self.carrier.gateway_epoch_bits()
    }

    /// Whether the gateway has said that it has no room.
    pub fn is_full(&self) -> bool {
        self.carrier.is_full()
    }

    /// What the gateway grants, if that is less than it was asked for.
    pub fn less(&self) -> Option<Less> {
        self.carrier.less()
    }

    /// Whether others are asked for the document of now, because the gateway does not hand it over.
    pub fn is_asking_others(&self) -> bool {
        self.carrier.is_asking_others()
    }

    /// The gateway that it uses now: the guard, or one of the reserves.
    pub fn gateway(&self) -> [u8; 32] {
        self.carrier.place().gateway
    }

    /// This client's address.
    pub fn address(&self) -> Address {
        let (place, identity) = (self.carrier.place(), self.transfers.identity());
        Address {
            gateway: place.gateway,
            destination: place.destination,
            x25519: *identity.x25519(),
            kem_hash: *blake3::hash(identity.kem_public()).as_bytes(),
        }
    }

    /// Starts to send a file. `key`: the recipient's ML-KEM key if it was fetched before.
    pub fn send(
        &mut self,
        address: Address,
        manifest: Manifest,
        source: Box<dyn Source>,
        key: Option<Box<[u8; KEM_KEY_BYTES]>>,
    ) {
        let mean_delay_us = self.carrier.documents().parameters().mean_delay_us;
        let pace = (self.carrier.letters_pps(), mean_delay_us);
        self.transfers.send(address, manifest, source, key, pace);
    }

    /// From now on probes are made and known by this key: one of a run, that all clients of a laboratory share.
    #[cfg(any(test, feature = "probe"))]
    pub fn set_probe_key(&mut self, key: [u8; 32]) {
        self.probes.set_key(key);
    }

    /// Puts a letter with nothing but this number in line for the next slot that is for letters. False, and nothing is
    /// sent, while another waits there.
    #[cfg(any(test, feature = "probe"))]
    pub fn probe(&mut self, to: &Address, number: u64) -> bool {
        self.probes.send(to, number)
    }

    /// The number of the next probe that arrived, oldest first.
    #[cfg(any(test, feature = "probe"))]
    pub fn probed(&mut self) -> Option<u64> {
        self.probes.arrived()
    }

    /// Slots a second that letters may take, while no document is due: of all others each is one by the same chance.
    #[cfg(any(test, feature = "probe"))]
    pub fn letters_pps(&self) -> f64 {
        self.carrier.letters_pps()
    }

    /// Whether slots are taken by questions for a document that is due: see [`Client::letters_pps`].
    #[cfg(any(test, feature = "probe"))]
    pub fn is_fetching(&self, unix_ms: u64) -> bool {
        self.carrier.is_fetching(unix_ms)
    }

    /// Has the recipient of a `transfer` that was begun told that `earlier` ones to him are given up, since this one takes
    /// their place: he removes what he has of them.
    pub fn give_up(&mut self, transfer: &TransferId, earlier: &[TransferId]) {
        self.transfers.give_up(transfer, earlier);
    }

    /// Fills the slot if its time has come: where to send which datagram. A slot without one (no gateway known, no
    /// session yet) passes.
    pub fn transmit(
        &mut self,
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        if self.deadline() > now_ns {
            return None;
        }
        self.refill(now_ns, unix_ms);
        let departures = self.departures.as_mut()?;
        while let Some(supply) = self.carrier.supply() {
            departures.take(supply);
        }
        let datagram = departures.depart(now_ns);
        self.carrier.departed(departures.gone(), now_ns);
        datagram
    }

    /// Makes what the next slots will hold, unless that is done.
    pub(crate) fn refill(&mut self, now_ns: u64, unix_ms: u64) {
        let (carrier, mut services) = self.parts();
        carrier.refill(&mut services, now_ns, unix_ms);
    }

    /// Nothing that came before this moment is still to be received: only then does what is missing say that the gateway is
    /// silent. Who never says so is taken to receive at once.
    pub fn listened(&mut self, now_ns: u64) {
        self.carrier.listened(now_ns);
    }

    /// Takes a datagram from the network; what is not from the gateway is passed over.
    pub fn receive(&mut self, now_ns: u64, datagram: &mut [u8; DATAGRAM_BYTES]) {
        let (carrier, mut services) = self.parts();
        carrier.receive(&mut services, now_ns, datagram);
    }

    /// Whether a transfer is sent, or was to its end and is not withdrawn yet.
    pub fn sends(&self, transfer: &TransferId) -> bool {
        self.transfers.outgoing(transfer).is_some()
    }

    /// Sends nothing more of a transfer, and forgets it.
    pub fn withdraw(&mut self, transfer: &TransferId) {
        self.transfers.withdraw(transfer);
    }

    /// Answers to requests for this user's key that were not given, since the start: there were more than it answers.
    pub fn keys_withheld(&self) -> u64 {
        self.transfers.keys_withheld()
    }

    /// The files that are arriving, each with the number of its chunks that are here.
    pub fn receiving(&self) -> impl Iterator<Item = (&Manifest, u32)> {
        self.transfers.receiving()
    }

    /// Why a transfer failed, if it did.
    pub fn failure(&self, transfer: &TransferId) -> Option<&Failure> {
        let outgoing = self.transfers.outgoing(transfer);
        match outgoing.map(|outgoing| outgoing.phase()) {
            Some(Phase::Failed(failure)) => Some(failure),
            _ => None,
        }
    }
}

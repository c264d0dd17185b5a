//! A client with its socket and clock: what sends and what receives both run it turn by turn.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use link::DATAGRAM_BYTES;
use rand_core::{Rng, SeedableRng};
use sphinx::Generator;

use super::clock::SteadyClock;
use super::departing::Departing;
use super::lookout::{self, Seen};
use super::run::{Options, RunError};
use crate::carrier::Reserves;
use crate::client::{Client, Config};
use crate::event::Event;
use crate::identity::Identity;
use crate::store::Storage;
use crate::store::home::Home;
use crate::transfer::Received;

/// The longest wait for a datagram, so that a request to stop is seen.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Datagrams read between two looks at what the slots need.
const BURST_MAX: usize = 4;

/// A client with its socket and clock.
pub(super) struct Session {
    pub(super) client: Client,
    departing: Departing,
    socket: UdpSocket,
    clock: SteadyClock,
    /// It may leave its gateway for a reserve.
    has_reserves: bool,
    /// Why the last document or key was not kept; told once.
    unsaved: Option<String>,
    rate_pps: f64,
    loss: f64,
    /// For simulated loss alone.
    dice: Generator,
}

impl Session {
    /// A client of this home. One that receives, into its `storage`, stays at its gateway, which its address names.
    pub(super) fn start(
        home: &Home,
        options: &Options,
        storage: Option<Box<dyn Storage>>,
        mut rng: Generator,
    ) -> Result<Self, RunError> {
        let receives = storage.is_some();
        let gateway = home.documents.find(&home.gateway, unix_ms());
        let v6 = gateway
            .and_then(|node| node.addresses.first())
            .is_some_and(SocketAddr::is_ipv6);
        let socket = super::socket::open(v6).map_err(RunError::Socket)?;
        let dice = Generator::from_rng(&mut rng);
        let config = Config {
            identity: Identity::from_bytes(home.identity.to_bytes()),
            mailbox: home.mailbox.clone(),
            gateway: home.gateway,
            authorities: home.authorities.clone(),
            rate_pps: options.rate_pps.map(f64::from),
            loop_share: options.loop_share,
        };
        let network_pps = f64::from(home.documents.parameters().client_rate_pps);
        let rate_pps = config.rate_pps.unwrap_or(network_pps);
        let mut client = Client::new(config, home.documents.clone(), storage, rng, 0);
        client.set_reserves(Reserves {
            gateways: home.reserves.clone(),
            state: home.guard_state,
            moves: !receives,
        });
        let clock = SteadyClock::start();
        let departures = client.take_departures();
        let departures = departures.ok_or(io::ErrorKind::NotFound.into());
        let departing = departures
            .and_then(|departures| {
                let now_ns = Box::new(move || clock.now_ns());
                Departing::start(departures, socket.try_clone()?, now_ns)
            })
            .map_err(RunError::Socket)?;
        Ok(Self {
            client,
            departing,
            socket,
            clock,
            has_reserves: !receives && !home.reserves.is_empty(),
            unsaved: None,
            rate_pps,
            loss: options.loss,
            dice,
        })
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Waits for a datagram, a slot that has passed, or something to read from `others`; makes what the next slots
    /// need, hands out what happened.
    pub(super) fn turn(
        &mut self,
        home: &Home,
        others: &[BorrowedFd<'_>],
        on_event: &mut dyn FnMut(Event),
    ) -> Result<(), RunError> {
        let wait_ns = self.client.deadline().saturating_sub(self.now_ns());
        let wait = Duration::from_nanos(wait_ns).min(WAIT_MAX);
        let own = [self.socket.as_fd(), self.departing.wake()];
        let looked_ns = self.now_ns();
        let ready = super::wait::readable(&[&own, others].concat(), wait);
        let is_ready = |place: usize| ready.get(place).is_some_and(|ready| *ready);
        let (arrived, departed) = (is_ready(0), is_ready(1));
        if departed {
            self.departing.woken();
        }
        if self.departing.is_over() {
            let error =
                io::Error::other("the thread that sends has ended: nothing leaves any more");
            return Err(RunError::Socket(error));
        }
        self.exchange();
        match arrived {
            true => self.take_arrivals(),
            false => self.client.listened(looked_ns),
        }
        self.client.refill(self.now_ns(), unix_ms());
        self.exchange();
        while let Some(event) = self.client.event() {
            let saved = match &event {
                Event::Consensus { epoch, document } => home.save_consensus(*epoch, document),
                Event::Authorities(chain) => home.save_authorities(chain),
                Event::Key { hash, key } => home.save_key(hash, key),
                Event::Guard(state) => home.save_guard_state(*state),
                _ => Ok(()),
            };
            // What can't be kept is fetched again after the next start: no reason to end.
            let failed = saved.err().map(|error| {
                let home = home.path().display();
                format!("{home}: what the network told can't be kept: {error}")
            });
            if let Some(text) = &failed
                && self.unsaved != failed
            {
                on_event(Event::Received(Received::Storage(text.clone())));
            }
            if failed.is_some() || matches!(event, Event::Consensus { .. }) {
                self.unsaved = failed;
            }
            on_event(event);
        }
        Ok(())
    }

    fn exchange(&mut self) {
        let now_ns = self.now_ns();
        self.departing.exchange(&mut self.client, now_ns);
    }

    /// Takes what has arrived, no more than a burst at a time.
    fn take_arrivals(&mut self) {
        let mut datagram = [0; DATAGRAM_BYTES + 1];
        for _ in 0..BURST_MAX {
            // What is received may take its time on the disk: later than this nobody has looked.
            let now_ns = self.now_ns();
            match self.socket.recv_from(&mut datagram) {
                Ok((DATAGRAM_BYTES, _)) if !self.drops() => {
                    if let Some(datagram) = datagram.first_chunk_mut() {
                        self.client.receive(now_ns, datagram);
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.client.listened(now_ns);
                }
                // An ICMP error about an earlier datagram, which may be forged.
                Err(_) => return,
            }
        }
    }

    /// How everything stands now; no answer of a recipient is awaited.
    pub(super) fn seen(&self) -> Seen {
        let (documents, unix_ms) = (self.client.documents(), unix_ms());
        let gateway = self.client.gateway();
        let node = documents.find(&gateway, unix_ms);
        let short = lookout::short(&gateway);
        let named = node.and_then(|node| {
            let operator = program::visible(node.operator.as_bytes());
            Some((format!("{operator} ({short})"), *node.addresses.first()?))
        });
        Seen {
            unsendable: self.departing.refused().as_ref().map(plain_words),
            epoch: documents.epoch_at(unix_ms),
            newest: documents.newest(),
            is_live: documents.live(unix_ms).is_some(),
            clocks: self.client.gateway_epoch_bits().and_then(|bits| {
                let (parameters, newest) = (documents.parameters(), documents.newest());
                lookout::clocks(parameters, newest, (unix_ms, self.rate_pps), bits)
            }),
            gateway: named,
            identity: short,
            is_left_out: documents.leaves_out(&gateway, unix_ms),
            is_full: self.client.is_full(),
            asks_others: self.client.is_asking_others(),
            has_reserves: self.has_reserves,
            is_attached: self.client.is_attached(),
            heard: self
                .client
                .answered_ns()
                .map(|ns| Duration::from_nanos(self.now_ns().saturating_sub(ns))),
            rate_pps: self.rate_pps,
            mean_delay: Duration::from_micros(documents.parameters().mean_delay_us.into()),
            recipient_gateway: None,
            recipient: None,
            has_no_room: false,
        }
    }

    fn drops(&mut self) -> bool {
        self.loss > 0.0 && (self.dice.next_u64() >> 11) as f64 / ((1u64 << 53) as f64) < self.loss
    }
}

/// The system's words without its numbers.
fn plain_words(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

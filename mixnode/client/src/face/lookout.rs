//! What a running client waits for, in words: told once it has lasted, and again when it changes.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use directory::Parameters;
use serde::{Deserialize, Serialize};

/// A wait is told when it has lasted so long: everything in order takes less.
const PATIENCE: Duration = Duration::from_secs(3);
/// A recipient that has not answered for so long is told of, or longer where delays are.
const ANSWER: Duration = Duration::from_secs(4);
/// A gateway is silent after this, or after so many frames that should have come.
const SILENCE: Duration = Duration::from_secs(2);
const SILENT_FRAMES: f64 = 20.0;

/// What nothing moves without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wait {
    /// Datagrams can't leave this machine.
    Network {
        /// What the system says.
        why: String,
    },
    /// The clock shows a time before that of a document this client holds.
    Clock {
        /// The epoch of the clock.
        epoch: u32,
        /// The newest document's.
        newest: u32,
    },
    /// The clock and the gateway's show different epochs, and for longer than clocks may differ.
    ClockOff {
        /// The epoch of this clock.
        epoch: u32,
        /// The gateway's.
        theirs: u32,
    },
    /// No document is in force.
    Document {
        /// The epoch of the clock.
        epoch: u32,
        /// The newest document's, if there is one.
        newest: Option<u32>,
        /// The gateway says that it has none, or says nothing: others are asked.
        asks_others: bool,
        /// The epoch that the gateway is in, where that is another.
        theirs: Option<u32>,
    },
    /// The network's document names the gateway no more.
    GatewayGone {
        /// The beginning of its identity.
        name: String,
        /// A reserve may take its place.
        has_reserves: bool,
    },
    /// The gateway has no room for an attachment.
    Full {
        /// Its operator and the beginning of its identity.
        name: String,
        /// Where it is.
        address: SocketAddr,
        /// A reserve may take its place.
        has_reserves: bool,
    },
    /// Nothing comes from the gateway.
    Gateway {
        /// Its operator and the beginning of its identity.
        name: String,
        /// Where it is.
        address: SocketAddr,
    },
    /// Something comes from the gateway, but no attachment.
    Attachment {
        /// As above.
        name: String,
        /// Where it is.
        address: SocketAddr,
    },
    /// Standard input is open and has nothing to read.
    Input,
    /// The network's document does not name the gateway of the recipient's address.
    RecipientGateway {
        /// The beginning of its identity.
        name: String,
    },
    /// The recipient has answered nothing, or nothing more.
    Recipient {
        /// Seconds since the Unix epoch of the last answer.
        since_unix_s: Option<u64>,
    },
    /// The recipient has no room for the file.
    NoRoom,
}

impl Wait {
    /// A word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Wait::Network { .. } => "network",
            Wait::Clock { .. } | Wait::ClockOff { .. } => "clock",
            Wait::Document { .. } => "document",
            Wait::GatewayGone { .. } => "gateway-gone",
            Wait::Full { .. } => "gateway-full",
            Wait::Gateway { .. } => "gateway",
            Wait::Attachment { .. } => "attachment",
            Wait::Input => "input",
            Wait::RecipientGateway { .. } => "recipient-gateway",
            Wait::Recipient { .. } => "recipient",
            Wait::NoRoom => "no-room",
        }
    }

    /// What is said when it is over.
    pub fn over(&self) -> String {
        match self {
            Wait::Network { .. } => "the network is back".to_owned(),
            Wait::Clock { .. } => "your clock is not behind any more".to_owned(),
            Wait::ClockOff { .. } => "your clock and the gateway's agree".to_owned(),
            Wait::Document { .. } => "a valid document is here".to_owned(),
            Wait::GatewayGone { name, .. } => format!("the gateway {name} is in the network again"),
            Wait::Full { name, .. } | Wait::Attachment { name, .. } => {
                format!("the gateway {name} has let us in")
            }
            Wait::Gateway { name, .. } => format!("the gateway {name} is back"),
            Wait::Input => "standard input gives something".to_owned(),
            Wait::RecipientGateway { name } => {
                format!("the recipient's gateway {name} is in the network again")
            }
            Wait::Recipient { .. } => "the recipient answers".to_owned(),
            Wait::NoRoom => "the recipient has room".to_owned(),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Network { why } => write!(f, "no network: {why}"),
            Wait::Clock { epoch, newest } => write!(
                f,
                "your clock is behind: it says epoch {epoch}, and there is a document of epoch {newest} already; see \
                 `date`"
            ),
            Wait::ClockOff { epoch, theirs } => write!(
                f,
                "your clock is {} the gateway's: epoch {epoch} by yours, {theirs} by theirs, and nothing gets through; see \
                 `date`: if it is right, the gateway is at fault",
                if theirs < epoch { "ahead of" } else { "behind" }
            ),
            Wait::Document {
                epoch,
                newest,
                asks_others,
                theirs,
            } => {
                write!(
                    f,
                    "no valid document of the network: epoch {epoch} by your clock, "
                )?;
                if let Some(theirs) = theirs {
                    write!(
                        f,
                        "{theirs} at the gateway (your clock is wrong, or it has no document either); "
                    )?;
                }
                match newest {
                    Some(newest) => write!(f, "the newest one here is of epoch {newest}; ")?,
                    None => write!(f, "none is here; ")?,
                }
                match asks_others {
                    false => write!(f, "asking the gateway for it"),
                    true => write!(
                        f,
                        "the gateway does not hand it over: asking others, and sending cover alone until then"
                    ),
                }
            }
            Wait::GatewayGone {
                name,
                has_reserves: true,
            } => write!(
                f,
                "the gateway {name} is not in the network any more: trying its reserves"
            ),
            Wait::GatewayGone {
                name,
                has_reserves: false,
            } => write!(
                f,
                "the gateway {name} is in no document any more: run fog init again to choose another (your address \
                 changes)"
            ),
            Wait::Full {
                name,
                address,
                has_reserves,
            } => {
                write!(
                    f,
                    "the gateway {name} at {address} has no room for us; it is asked again, with growing pauses"
                )?;
                match has_reserves {
                    true => write!(f, ", and after an hour of that its reserves are"),
                    false => Ok(()),
                }
            }
            Wait::Gateway { name, address } => {
                write!(f, "the gateway {name} at {address} does not answer")
            }
            Wait::Attachment { name, address } => write!(
                f,
                "the gateway {name} at {address} answers, but does not let us in: no handshake has come to its end"
            ),
            Wait::Input => write!(f, "standard input gives nothing"),
            Wait::RecipientGateway { name } => write!(
                f,
                "the recipient's gateway {name} is not in the network: the address is of another network, or they have a \
                 newer one; ask them for it"
            ),
            Wait::Recipient { since_unix_s } => match since_unix_s {
                None => write!(
                    f,
                    "the recipient has not answered yet: is their fog recv running?"
                ),
                Some(at) => {
                    let (hour, minute) = (at / 3_600 % 24, at / 60 % 60);
                    write!(
                        f,
                        "the recipient has not answered since {hour:02}:{minute:02}:{:02} UTC",
                        at % 60
                    )
                }
            },
            Wait::NoRoom => write!(
                f,
                "paused: no room at the recipient; they are asked again and again"
            ),
        }
    }
}

/// How everything stands at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The last datagram could not leave.
    pub unsendable: Option<String>,
    /// The clock's epoch.
    pub epoch: u32,
    /// The newest document's.
    pub newest: Option<u32>,
    /// A document is in force.
    pub is_live: bool,
    /// The clock's epoch and the gateway's, where they have differed for too long.
    pub clocks: Option<(u32, u32)>,
    /// Name and address of the gateway, where a document has it.
    pub gateway: Option<(String, SocketAddr)>,
    /// The beginning of the gateway's identity.
    pub identity: String,
    /// The document in force leaves it out.
    pub is_left_out: bool,
    /// The gateway said that it has no room.
    pub is_full: bool,
    /// Other gateways are asked for the document of now.
    pub asks_others: bool,
    /// A reserve may take the gateway's place.
    pub has_reserves: bool,
    /// The gateway delivers to us.
    pub is_attached: bool,
    /// Since the last datagram from the gateway.
    pub heard: Option<Duration>,
    /// Datagrams that should come a second.
    pub rate_pps: f64,
    /// Mean delay of a hop.
    pub mean_delay: Duration,
    /// The beginning of the identity of the recipient's gateway, where the document in force leaves it out.
    pub recipient_gateway: Option<String>,
    /// Somebody's answer is awaited: when the last one came, and for how long there was none.
    pub recipient: Option<(Option<u64>, Duration)>,
    /// Somebody has no room for what is sent.
    pub has_no_room: bool,
}

impl Seen {
    /// How long an answer may take: packets there and back through all hops, in slots of both.
    fn answer_patience(&self) -> Duration {
        let slots = Duration::from_secs_f64(2.0 * SILENT_FRAMES / self.rate_pps.max(0.001));
        ANSWER.max(slots + self.mean_delay * 20)
    }

    /// What comes first of what is missing.
    fn wait(&self) -> Option<Wait> {
        if let Some(why) = &self.unsendable {
            return Some(Wait::Network { why: why.clone() });
        }
        // Documents are made at most one epoch ahead.
        if let Some(newest) = self.newest
            && newest > self.epoch.saturating_add(1)
        {
            let epoch = self.epoch;
            return Some(Wait::Clock { epoch, newest });
        }
        let has_reserves = self.has_reserves;
        let Some((name, address)) = self.gateway.clone().filter(|_| !self.is_left_out) else {
            let name = self.identity.clone();
            return Some(Wait::GatewayGone { name, has_reserves });
        };
        if self.is_full {
            return Some(Wait::Full {
                name,
                address,
                has_reserves,
            });
        }
        if self
            .heard
            .is_none_or(|heard| heard > silence(self.rate_pps))
        {
            return Some(Wait::Gateway { name, address });
        }
        if !self.is_attached {
            return Some(Wait::Attachment { name, address });
        }
        if !self.is_live {
            return Some(Wait::Document {
                epoch: self.epoch,
                newest: self.newest,
                asks_others: self.asks_others,
                theirs: self.clocks.map(|(_, theirs)| theirs),
            });
        }
        if let Some((epoch, theirs)) = self.clocks {
            return Some(Wait::ClockOff { epoch, theirs });
        }
        if let Some(name) = self.recipient_gateway.clone() {
            return Some(Wait::RecipientGateway { name });
        }
        match self.recipient {
            Some((since_unix_s, silent)) if silent > self.answer_patience() => {
                Some(Wait::Recipient { since_unix_s })
            }
            _ => self.has_no_room.then_some(Wait::NoRoom),
        }
    }
}

/// As much of an identity as people compare.
pub(super) fn short(identity: &[u8; 32]) -> String {
    directory::store::hex(identity.get(..4).unwrap_or_default())
}

/// So long no frame need come at this rate.
fn silence(rate_pps: f64) -> Duration {
    SILENCE.max(Duration::from_secs_f64(SILENT_FRAMES / rate_pps.max(0.001)))
}

/// The epochs that the clock and the gateway's show, if they differ by more than a turn tolerates: R from this clock's own
/// turn, and as long as the gateway's last frame may lie back. `bits`: its epoch modulo 4, as its frames carry it; `newest`:
/// that of the newest document, which is made one epoch ahead at most.
pub(super) fn clocks(
    parameters: &Parameters,
    newest: Option<u32>,
    (unix_ms, rate_pps): (u64, f64),
    bits: u8,
) -> Option<(u32, u32)> {
    let epoch = parameters.epoch_at(unix_ms);
    let starts_ms = parameters.epoch_starts_ms(epoch);
    let silence_ms = u64::try_from(silence(rate_pps).as_millis()).unwrap_or(u64::MAX);
    let tolerated_ms = parameters.round_ms().saturating_add(silence_ms);
    let left_ms = (starts_ms + parameters.epoch_ms).saturating_sub(unix_ms);
    let has_document = newest >= Some(epoch);
    let theirs = match u32::from(bits).wrapping_sub(epoch) % 4 {
        3 if unix_ms.saturating_sub(starts_ms) > tolerated_ms => epoch.checked_sub(1)?,
        1 if has_document && left_ms > tolerated_ms => epoch.saturating_add(1),
        2 if has_document => epoch.saturating_add(2),
        2 => epoch.checked_sub(2)?,
        1 if !has_document => epoch.checked_sub(3)?,
        _ => return None,
    };
    Some((epoch, theirs))
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// What is missing now, and since when.
    now: Option<(Wait, Duration)>,
    told: Option<Wait>,
}

impl Lookout {
    /// What is to be told at the time `now`, counted from the start: a wait that has lasted, or that none is left.
    pub fn look(&mut self, now: Duration, seen: &Seen) -> Option<Option<Wait>> {
        let Some(wait) = seen.wait() else {
            self.now = None;
            return self.told.take().map(|_| None);
        };
        let lasted = match &self.now {
            Some((before, since)) if *before == wait => now.saturating_sub(*since),
            _ => {
                self.now = Some((wait.clone(), now));
                Duration::ZERO
            }
        };
        // Silence of the recipient has lasted when it is seen, and what they say is so.
        let is_told = matches!(wait, Wait::Recipient { .. } | Wait::NoRoom);
        let lasting = lasted >= PATIENCE || is_told;
        if lasting && self.told.as_ref() != Some(&wait) {
            self.told = Some(wait.clone());
            return Some(Some(wait));
        }
        None
    }

    /// What was told last and still holds.
    pub fn told(&self) -> Option<&Wait> {
        self.told.as_ref()
    }
}

/// Seconds since the Unix epoch.
pub(super) fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;

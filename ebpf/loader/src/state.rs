//! What is attached, and whose it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::MapError;
use ebpf_abi::{Reason, XSKS_MAX};
use handover::protocol::{InterfaceStats, InterfaceStatus, Mode, Reply};

use super::condition::Condition;
use super::interface::{self, Interface};
use super::maps::{self, Indices, Limits, Maps};
use super::{GRACE, explain, program, sockets};
use crate::error::LoaderError;

/// Between two looks at the interfaces.
const LOOK: Duration = Duration::from_secs(2);

/// A connection's number; never used twice.
pub(super) type ConnectionId = u64;

/// A node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub connection: ConnectionId,
    /// Its process.
    pub pid: i32,
    pub address: SocketAddr,
}

/// An interface with the program on it.
pub(super) struct Attachment {
    /// The interface's number, which it keeps under every name.
    index: u32,
    /// How it was found last.
    condition: Condition,
    pub mode: Mode,
    pub maps: Maps,
    pub owner: Option<Owner>,
    /// Queues that have a socket in the map.
    pub steered: u32,
    /// Taken over from an earlier loader, whose node may come back until then.
    pub orphaned_until: Option<Instant>,
}

impl Attachment {
    /// Nobody's any more: packets go to the kernel's socket, no receiver index is known.
    fn abandon(&mut self) -> Result<(), MapError> {
        self.owner = None;
        self.orphaned_until = None;
        self.steered = 0;
        self.maps.steer_nothing()?;
        self.maps.set_indices(&Indices::new())
    }
}

/// Everything attached.
pub(super) struct State {
    /// None where no program is to be loaded.
    pins: Option<PathBuf>,
    /// By the interface's name.
    attachments: BTreeMap<String, Attachment>,
    next_look: Instant,
}

impl State {
    /// Takes over what is pinned.
    pub fn take_over(pins: &Path) -> Result<State, LoaderError> {
        let mut attachments = BTreeMap::new();
        let there = interface::all()?;
        for name in program::pinned(pins) {
            let folder = program::folder(pins, &name)?;
            if program::is_failed_attempt(&folder) {
                program::remove(&folder)?;
                continue;
            }
            // By the program that is on it: it may have been renamed since.
            let found = there.iter().find_map(|interface| {
                let taken = program::take_over(&folder, interface).transpose()?;
                Some(taken.map(|(mode, maps)| (interface.index, mode, maps)))
            });
            match found.transpose() {
                Ok(Some((index, mode, maps))) => {
                    tracing::info!("{name}: took over the program");
                    let attachment = Attachment {
                        index,
                        condition: Condition::Well,
                        mode,
                        maps,
                        owner: None,
                        steered: 0,
                        orphaned_until: Some(Instant::now() + GRACE),
                    };
                    attachments.insert(name, attachment);
                }
                Ok(None) => tracing::warn!(
                    "what is pinned for {name} is not on it any more: attach again, or detach to remove it"
                ),
                Err(error) => tracing::warn!("{name} is not taken over: {error}"),
            }
        }
        Ok(State {
            pins: Some(pins.to_owned()),
            attachments,
            next_look: Instant::now(),
        })
    }

    /// Of a loader that loads nothing.
    pub fn without_xdp() -> State {
        State {
            pins: None,
            attachments: BTreeMap::new(),
            next_look: Instant::now(),
        }
    }

    /// The attachment that `connection` is the node of.
    pub fn owned(&mut self, connection: ConnectionId) -> Option<(&String, &mut Attachment)> {
        self.attachments.iter_mut().find(|(_, attachment)| {
            attachment
                .owner
                .is_some_and(|owner| owner.connection == connection)
        })
    }

    /// The earliest time at which something here is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let look = (!self.attachments.is_empty()).then_some(self.next_look);
        self.attachments
            .values()
            .filter_map(|attachment| attachment.orphaned_until)
            .chain(look)
            .min()
    }

    /// Looks at the interfaces when it is time, and forgets the nodes of an earlier loader that did not come back.
    pub fn expire(&mut self, now: Instant) {
        if now >= self.next_look {
            self.next_look = now + LOOK;
            if let Err(error) = self.look() {
                tracing::debug!("no look at the interfaces: {}", explain::whole(&error));
            }
        }
        for (name, attachment) in &mut self.attachments {
            if attachment.orphaned_until.is_some_and(|until| now >= until) {
                tracing::info!("{name}: its node did not come back");
                if let Err(error) = attachment.abandon() {
                    tracing::warn!("{name}: {}", explain::whole(&error));
                }
            }
        }
    }

    /// Follows what became of the interfaces: one that was renamed keeps program, node and pins under its new name, and
    /// what befell one is said, once.
    pub fn look(&mut self) -> Result<(), LoaderError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        if self.attachments.is_empty() {
            return Ok(());
        }
        let there = interface::all()?;
        for found in &there {
            let mut all = self.attachments.iter();
            let Some((name, _)) = all.find(|(_, one)| one.index == found.index) else {
                continue;
            };
            let (name, new) = (name.clone(), found.name.clone());
            let is_free = |taken: &Attachment| there.iter().all(|one| one.index != taken.index);
            if name == new || !self.attachments.get(&new).is_none_or(is_free) {
                // Of two that swap names each has to wait for the other's: both keep the names that they were attached
                // by.
                continue;
            }
            program::rename(pins, &name, &new)?;
            tracing::info!("{name} is called {new} now");
            if let Some(attachment) = self.attachments.remove(&name) {
                self.attachments.insert(new, attachment);
            }
        }
        for (name, attachment) in &mut self.attachments {
            let found = there.iter().find(|found| found.index == attachment.index);
            let condition = Condition::of(found);
            if condition != attachment.condition {
                attachment.condition = condition;
                match condition.fault(name) {
                    Some(fault) => tracing::warn!("{fault}"),
                    None => tracing::info!("{name}: datagrams come and go again"),
                }
            }
        }
        Ok(())
    }

    /// A connection has ended.
    pub fn ended(&mut self, connection: ConnectionId) {
        if let Some((name, attachment)) = self.owned(connection) {
            tracing::info!("{name}: its node is gone");
            if let Err(error) = attachment.abandon() {
                tracing::warn!("{name}: {}", explain::whole(&error));
            }
        }
    }

    pub fn attach(
        &mut self,
        name: &str,
        port: u16,
        allow_generic: bool,
        capacity_pps: u32,
    ) -> Result<Reply, LoaderError> {
        self.look()?;
        let pins = self.pins.as_ref().ok_or(LoaderError::NoXdp)?;
        let folder = program::folder(pins, name)?;
        if port == 0 || capacity_pps < maps::CAPACITY_MIN {
            return Err(LoaderError::OutOfBounds {
                port,
                capacity_pps,
                capacity_min: maps::CAPACITY_MIN,
            });
        }
        let interface = interface::named(name)?.ok_or_else(|| unknown(name))?;
        explain::unsuitable(&interface)?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let queues = sockets::receive_queues(name).unwrap_or(1);
        let limits = Limits::of(port, capacity_pps, cpus, queues);
        // An interface that was made anew under its old name has no program.
        let ours = program::take_over(&folder, &interface)?.map(|(mode, _)| mode);
        if ours.is_none() {
            self.attachments.remove(name);
        }
        let attached = program::attach(pins, &interface, ours, limits, allow_generic)?;
        match self.attachments.get_mut(name) {
            // The maps are the same ones, and so is what the loader knows of them.
            Some(attachment) => {
                attachment.mode = attached.mode;
                if let Some(owner) = attachment.owner {
                    let told = attachment.maps.set_node(owner.address);
                    told.map_err(|error| explain::map(name, &error))?;
                }
            }
            None => {
                let attachment = Attachment {
                    mode: attached.mode,
                    maps: attached.maps,
                    owner: None,
                    steered: 0,
                    orphaned_until: None,
                    index: interface.index,
                    condition: Condition::Well,
                };
                self.attachments.insert(name.to_owned(), attachment);
            }
        }
        Ok(Reply::Attached {
            mode: attached.mode,
            degraded: attached.degraded,
            replaced: attached.replaced,
        })
    }

    pub fn detach(&mut self, name: &str) -> Result<Reply, LoaderError> {
        self.look()?;
        let pins = self.pins.as_ref().ok_or(LoaderError::NoXdp)?;
        // The maps' last descriptors but for the program's.
        let known = self.attachments.remove(name).is_some();
        if program::detach(pins, name)? || known {
            return Ok(Reply::Done);
        }
        Err(LoaderError::NothingAttached {
            interface: name.to_owned(),
        })
    }

    pub fn status(&self) -> Result<Reply, LoaderError> {
        let status = |(name, attachment): (&String, &Attachment)| -> Result<_, LoaderError> {
            let wrong = |error: MapError| explain::map(name, &error);
            Ok(InterfaceStatus {
                interface: name.clone(),
                port: attachment.maps.port().map_err(wrong)?,
                mode: attachment.mode,
                queues: match attachment.condition {
                    // Another interface may have its name.
                    Condition::Gone => 0,
                    _ => sockets::receive_queues(name).unwrap_or(0),
                },
                steered: attachment.steered,
                node: attachment.owner.map(|owner| owner.address),
                indices: attachment.maps.indices().map_err(wrong)?,
                peers: attachment.maps.peer_count(),
                fault: attachment.condition.fault(name),
            })
        };
        let interfaces = self
            .attachments
            .iter()
            .map(status)
            .collect::<Result<_, _>>()?;
        Ok(Reply::Status { interfaces })
    }

    pub fn stats(&self) -> Result<Reply, LoaderError> {
        let stats = |(name, attachment): (&String, &Attachment)| -> Result<_, LoaderError> {
            let counters = attachment
                .maps
                .counters()
                .map_err(|error| explain::map(name, &error))?;
            let named = Reason::ALL
                .iter()
                .map(|reason| reason.name().to_owned())
                .zip(counters);
            Ok(InterfaceStats {
                interface: name.clone(),
                packets: named.collect(),
            })
        };
        let interfaces = self
            .attachments
            .iter()
            .map(stats)
            .collect::<Result<_, _>>()?;
        Ok(Reply::Stats { interfaces })
    }

    /// The attached interface that a node at `address` belongs to.
    fn at(&mut self, address: SocketAddr) -> Result<(Interface, &mut Attachment), LoaderError> {
        let (port, address) = (address.port(), address.ip());
        let Some(index) = interface::with_address(address)? else {
            return Err(LoaderError::NoInterfaceWith { address });
        };
        let Some(interface) = interface::all()?
            .into_iter()
            .find(|found| found.index == index)
        else {
            return Err(LoaderError::InterfaceWithGone { address });
        };
        let name = &interface.name;
        let mut attachments = self.attachments.values_mut();
        let Some(attachment) = attachments.find(|one| one.index == index) else {
            return Err(LoaderError::NotAttached {
                interface: name.clone(),
                port,
            });
        };
        let attached = attachment
            .maps
            .port()
            .map_err(|error| explain::map(name, &error))?;
        if attached != port {
            return Err(LoaderError::OtherPort {
                interface: name.clone(),
                attached,
                port,
            });
        }
        Ok((interface, attachment))
    }

    /// Makes `owner` the node of its interface, for its sockets to be opened.
    pub fn claim(&mut self, owner: Owner) -> Result<Interface, LoaderError> {
        let (interface, attachment) = self.at(owner.address)?;
        if let Some(other) = attachment.owner {
            return Err(LoaderError::HasNode {
                interface: interface.name,
                pid: other.pid,
            });
        }
        attachment
            .abandon()
            .and_then(|()| attachment.maps.set_node(owner.address))
            .map_err(|error| explain::map(&interface.name, &error))?;
        attachment.owner = Some(owner);
        Ok(interface)
    }

    /// Gives a node back what it had before the loader was restarted: `indices` are all it uses. Its sockets are still
    /// in the map. Also lets a node come back on a new connection while the loader still holds the old one.
    pub fn resume(&mut self, owner: Owner, indices: &Indices) -> Result<(), LoaderError> {
        let (interface, attachment) = self.at(owner.address)?;
        let same_process = attachment.owner.is_some_and(|other| other.pid == owner.pid);
        if !same_process && (attachment.owner.is_some() || attachment.orphaned_until.is_none()) {
            return Err(LoaderError::NothingToResume {
                interface: interface.name,
            });
        }
        if !same_process {
            // The map can't be read back, but a node always gets all queues.
            let queues = sockets::receive_queues(&interface.name)?;
            attachment.steered = queues.min(XSKS_MAX as u32);
        }
        attachment.owner = Some(owner);
        attachment.orphaned_until = None;
        attachment
            .maps
            .set_node(owner.address)
            .and_then(|()| attachment.maps.set_indices(indices))
            .map_err(|error| explain::map(&interface.name, &error))
    }

    /// Steers packets to a node's sockets. They are closed here when the map has them: the node's own descriptors keep
    /// them alive, and the kernel takes them out of the map when the node is gone.
    pub fn steer(
        &mut self,
        connection: ConnectionId,
        sockets: Vec<(u32, OwnedFd)>,
    ) -> Result<(), LoaderError> {
        let (name, attachment) = self.owned(connection).ok_or(LoaderError::NotANode)?;
        for (queue, socket) in &sockets {
            if let Err(error) = attachment.maps.steer(*queue, socket.as_fd()) {
                let _ = attachment.maps.steer_nothing();
                return Err(explain::map(name, &error));
            }
        }
        attachment.steered = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Changes a map of the interface whose node `connection` is.
    pub fn write(
        &mut self,
        connection: ConnectionId,
        change: impl FnOnce(&mut Maps) -> Result<(), MapError>,
    ) -> Result<(), LoaderError> {
        let (name, attachment) = self.owned(connection).ok_or(LoaderError::NotANode)?;
        change(&mut attachment.maps).map_err(|error| explain::map(name, &error))
    }
}

fn unknown(name: &str) -> LoaderError {
    let there: Vec<String> = interface::all()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.name)
        .filter(|name| name != "lo")
        .collect();
    let nearest = there
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, other)| other.clone());
    LoaderError::UnknownInterface {
        name: name.to_owned(),
        nearest,
        there,
    }
}

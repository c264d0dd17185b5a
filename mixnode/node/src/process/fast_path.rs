//! The node's part of the XDP front end: sockets and packet memory from the loader, next hops, and who the peers are.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{NodeError, seat, system};
use crate::keys::epoch::EpochState;
use crate::loader_link::{Loader, WorkerMemory};
use crate::process::config::Config;
use crate::process::metrics::XdpFacts;
use handover::protocol::{Mode, Opened, Peer};
use port::Routes;

/// A peer may send this many times the share of traffic it is known for: shares are rough, and its loops and covers
/// come on top. The loader holds everyone to a quarter of this node's capacity whatever is said here.
const PEER_HEADROOM: u32 = 2;
/// Part of a second's packets that may come at once, and bounds of it.
const BURST_PART: u32 = 20;
const BURST_MIN: u32 = 128;
const BURST_MAX: u32 = 8_192;

/// What the loader handed over, and the way back to it.
pub(super) struct FastPath {
    pub loader: Loader,
    pub opened: Opened,
    pub routes: Arc<Routes>,
    /// By worker, each taken once.
    pub workers: Vec<WorkerMemory>,
    /// Duplicates of the sockets, to ask the kernel of them once they are bound.
    sockets: Vec<OwnedFd>,
}

impl FastPath {
    /// Asks the loader for sockets, with `frames` of packet memory for each worker.
    pub fn open(
        config: &Config,
        address: SocketAddr,
        frames: u32,
        loader: Loader,
    ) -> Result<FastPath, NodeError> {
        let xdp = config.xdp.clone().unwrap_or_default();
        let frames = vec![frames; usize::from(config.worker.count.max(1))];
        let handover = loader.open(address, frames, xdp.prefer_busy_poll)?;
        check_room(config, &handover.opened)?;
        let sockets = handover.workers.iter().flat_map(|worker| &worker.sockets);
        let sockets = sockets
            .map(|one| one.socket.try_clone())
            .collect::<io::Result<Vec<_>>>()
            .map_err(system("can't duplicate AF_XDP sockets"))?;
        let refresh = loader.clone();
        let routes = Routes::start(
            handover.opened.interface_index,
            address.ip(),
            Box::new(move |next_hops| refresh.refresh(next_hops)),
        )
        .map_err(system("can't follow routes and neighbours"))?;
        Ok(FastPath {
            loader,
            opened: handover.opened,
            routes,
            workers: handover.workers,
            sockets,
        })
    }

    /// Has packets steered to the sockets, whose rings are filled. They may be bound only now, and what the driver does for
    /// them shows then.
    pub fn ready(&mut self) -> Result<(), NodeError> {
        self.loader.ready()?;
        let sockets = std::mem::take(&mut self.sockets);
        let zero_copy: Vec<bool> = sockets
            .iter()
            .map(port::xsk::is_zero_copy)
            .collect::<io::Result<_>>()
            .map_err(system("can't ask for the options of AF_XDP sockets"))?;
        self.opened.zero_copy = zero_copy.into_iter().all(|one| one);
        Ok(())
    }

    /// What status, metrics and log say of it.
    pub fn facts(&self) -> XdpFacts {
        XdpFacts {
            interface: self.opened.interface.clone(),
            mode: self.opened.mode,
            zero_copy: self.opened.zero_copy,
        }
    }

    /// Says in the log what the operator got.
    pub fn announce(&self) {
        let facts = self.facts();
        let queues: usize = self.opened.queues.iter().map(Vec::len).sum();
        tracing::info!(
            interface = facts.interface,
            mode = facts.mode_name(),
            zero_copy = facts.zero_copy_name(),
            queues,
            "packets take the fast path"
        );
        if facts.mode == Mode::Generic {
            tracing::warn!(
                "the program runs in generic mode: every packet is copied before it is looked at"
            );
        }
    }
}

/// Whether the program's map has room for every receiver index that this node may have in use: were it full, the node
/// would answer no handshake of anybody.
fn check_room(config: &Config, opened: &Opened) -> Result<(), NodeError> {
    let workers = config.worker.count.max(1);
    let needed = u64::from(workers) * seat::indices_max(config) as u64;
    if needed <= u64::from(opened.indices_max) {
        return Ok(());
    }
    Err(NodeError::Indices {
        interface: opened.interface.clone(),
        workers,
        needed,
        room: opened.indices_max,
    })
}

/// Addresses of an epoch's nodes of the family of `own`, and their shares of the traffic; `own` is left out.
pub(super) fn nodes(state: &EpochState, own: SocketAddr) -> Vec<(IpAddr, u32)> {
    let consensus = state.consensus();
    let nodes = consensus.nodes().iter().flat_map(|node| {
        let addresses = node.addresses.iter();
        addresses.map(|address| (*address, node.weight))
    });
    nodes
        .filter(|(address, _)| address.is_ipv6() == own.is_ipv6() && *address != own)
        .map(|(address, capacity_pps)| (address.ip(), capacity_pps))
        .collect()
}

/// What the loader is told of them. Rates are by address, as the program sees it: of several the highest.
pub(super) fn peers<'a>(nodes: impl Iterator<Item = &'a (IpAddr, u32)>) -> Vec<Peer> {
    let mut rates: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for (address, capacity_pps) in nodes {
        let rate = rates.entry(*address).or_default();
        *rate = (*rate).max(*capacity_pps);
    }
    rates
        .into_iter()
        .map(|(address, capacity_pps)| {
            let pps = capacity_pps.saturating_mul(PEER_HEADROOM);
            Peer {
                address,
                pps,
                burst: (pps / BURST_PART).clamp(BURST_MIN, BURST_MAX),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_without_room_for_all_indices_is_refused_at_start_with_what_helps() {
        let opened = |indices_max| Opened {
            interface: "eth0".to_owned(),
            interface_index: 2,
            mac: [2, 0, 0, 0, 0, 1],
            mode: Mode::Native,
            zero_copy: true,
            queues: Vec::new(),
            indices_max,
        };
        let mut config = Config::default();
        config.node.role = directory::Role::Gateway;
        config.gateway.clients_max = 256;
        config.worker.count = 12;
        // 4,096 of nodes, two for each client and 64 for who is not attached, three rings of half-open ones.
        let needed = 12 * (4_096 + 2 * 256 + 64 + 3 * 512);
        assert!(check_room(&config, &opened(needed)).is_ok());
        let refused = check_room(&config, &opened(needed - 1)).unwrap_err();
        assert_eq!(refused.exit_code(), 78);
        let text = refused.to_string();
        let says = |part: &str| assert!(text.contains(part), "{text}");
        says("[worker] count: 12 workers");
        says(&needed.to_string());
        says("room for 74495: lower it");
    }

    #[test]
    fn an_address_of_several_nodes_or_epochs_gets_the_highest_rate_once() {
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let nodes = [(two, 10), (one, 1_000_000), (one, 5_000), (two, u32::MAX)];
        let peers = peers(nodes.iter());
        let rates: Vec<_> = peers.iter().map(|peer| (peer.address, peer.pps)).collect();
        assert_eq!(rates, [(one, 2_000_000), (two, u32::MAX)]);
        assert!(peers.iter().all(|peer| peer.burst == BURST_MAX));
        assert_eq!(super::peers([(one, 10)].iter())[0].burst, BURST_MIN);
    }
}

//! Why packets are dropped, for people: what each reason means and what to do about it. One table for the API, `mixctl
//! why-dropped` and the operators' page of drops.

use ebpf_abi::Reason;

/// Who drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The XDP program.
    Xdp,
    /// The kernel, between program or socket and worker.
    Kernel,
    /// The node's workers.
    Node,
}

impl Source {
    /// `xdp`, `kernel`, `node`.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Xdp => "xdp",
            Source::Kernel => "kernel",
            Source::Node => "node",
        }
    }
}

/// A reason, explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Its name in metrics.
    pub reason: &'static str,
    /// What happened, and most likely why.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// What to do about what cannot be helped, or needs no help.
const NOTHING: &str = "Nothing.";
const ATTACK: &str = "Nothing: the node sheds it at little cost. From all sides at once since an upgrade, take that back.";
const STRANGERS: &str =
    "Nothing: it is shed. Where it hurts, use port = \"xsk\": the XDP program drops most of it.";
const DEFECT: &str =
    "Report it with all of mixnode_*: a neighbour or this node has a defect, or somebody plays.";
const POOL: &str = "Raise [worker] pool_frames or max_pps, or add workers and cores.";
const LAG: &str =
    "Look at the clock (chronyc tracking), and whether documents arrive: mixctl epoch.";
const CORES: &str = "There are more workers than cores, or other work on them: lower [worker] count, or move that away.";

macro_rules! table {
    ($($reason:literal: $meaning:expr, $remedy:expr;)*) => {
        &[$(Meaning { reason: $reason, meaning: $meaning, remedy: $remedy }),*]
    };
}

/// The reasons of a node's workers, in the order of their checks.
pub const NODE: &[Meaning] = table! {
    "pool_full": "No frame was free: more arrives and is held than the pool has room for.", POOL;
    "fault": "The laboratory's own loss.", NOTHING;
    "stopping": "It came while the node was stopping.", NOTHING;
    "size": "A datagram that is not 1,232 bytes: none of the network's.", STRANGERS;
    "source": "A datagram in the name of an address that nobody out there has: this host's loopback, a group, port 0.", ATTACK;
    "type": "A datagram of a kind the link protocol does not have.", STRANGERS;
    "reserved": "A datagram whose reserved bytes are set.", STRANGERS;
    "handshake_queue_full": "More handshakes arrive than one thread answers: many nodes came at once, or somebody floods.", STRANGERS;
    "mailbox_full": "A worker does not get to what another one handed to it.", CORES;
    "strays_full": "Frames arrive at another worker than their session's, faster than they are handed over.", "The NIC's queues or hash changed: restart the node, so that sessions are made where they arrive.";
    "unknown_session": "A frame of a session that is over, or never was: a neighbour that has not noticed a restart, or a stranger.", "Nothing, within a minute after a restart. Else as for strangers: port = \"xsk\" keeps them off.";
    "sessions_full": "The first frame of a session for which there is no room.", "Clients: raise [gateway] clients_max. Else somebody opens many: nothing.";
    "counter": "A frame that was seen before, or is far behind: the network doubled it, or somebody played it again.", ATTACK;
    "neighbour_share": "One neighbour already has its share of the pool: it floods, or the pool is small.", "One node all the time: tell its operator. Many: raise [worker] pool_frames.";
    "forged": "A frame that its session's key did not make.", ATTACK;
    "link_reserved": "Authentic, but with reserved bits set: a neighbour of another version.", "Compare versions: mixctl status here and there.";
    "kind": "A neighbour sent what it has no business sending.", DEFECT;
    "neighbour_rate": "A node sends more than a quarter of [node] capacity_pps, or half more than its share of its layer: it floods, or the capacity is too low.", "One node all the time: tell its operator. Many: raise [node] capacity_pps to what the host does.";
    "client_rate": "A client sends faster than it was granted.", "Nothing: it is held to its grant.";
    "epoch": "A packet of an epoch whose key is not here any more, or not yet.", LAG;
    "layer": "A packet that skips a layer: its sender has another document.", LAG;
    "client_route": "A client's packet that does not go on to layer 1.", "Nothing: that client has a defect, or plays.";
    "low_order": "A packet with a key that gives away its secret: made on purpose.", ATTACK;
    "mac": "A header that was altered, or made for another key of this node.", "All nodes at once since a turn of the epoch: look at clocks and documents. Else somebody tries: nothing.";
    "replay": "A packet that was here before: somebody plays it again.", ATTACK;
    "replay_full": "A full bucket of the replay table: more packets in an epoch than it was sized for.", "Raise [worker] max_pps.";
    "command": "A header with a command that there is not: its sender is newer than this node, or has a defect.", "Compare versions: mixctl status here and there.";
    "header_reserved": "A header with reserved bits set: its sender is newer than this node, or has a defect.", "Compare versions: mixctl status here and there.";
    "delay": "A delay above the network's bound.", "Nothing: its sender has a defect, or plays.";
    "body": "A packet that ends here and was altered on the way.", "Nothing at first. Growing: a node on the way alters packets; loops of other nodes show which.";
    "unknown_loop": "A loop came back that this node had given up: it was late.", "Compare mixctl loops: a slow neighbour, or a restart of this node.";
    "not_gateway": "A delivery at a node that is no gateway.", DEFECT;
    "no_client": "Nobody with that address is attached: the client is offline.", "Nothing: senders try again.";
    "client_queue_full": "More arrives for a client than its stream carries.", "Nothing at first. All the time: raise [gateway] queue_frames, or have that client ask for a higher rate.";
    "client_gone": "The client left with this still queued for it.", "Nothing: senders try again.";
    "control": "A client's control frame that makes no sense, or comes too fast.", "Nothing: that client has a defect, or plays.";
    "queues_full": "All clients together have queued what the pool has for them.", "Raise [worker] pool_frames, or lower [gateway] clients_max or queue_frames.";
    "wheel_full": "As many packets are delayed as the pool has frames for.", POOL;
    "no_session": "No session to the next hop yet: it is down, or has just been started.", "Within seconds after a start: nothing. Else see which next hop the log names as lost, and tell its operator.";
};

/// What is lost between the wire and a worker.
pub const KERNEL: &[Meaning] = table! {
    "kernel_dropped": "The UDP socket's buffer was full, or the datagram had another length.", "Raise net.core.rmem_max (fogmix-tune does), add workers, or use port = \"xsk\".";
    "ring_full": "An AF_XDP ring was full: the worker is too slow for what arrives.", "More workers and NIC queues, or keep other work off their cores.";
    "fill_empty": "The kernel found no frame to receive into: the pool is too small.", POOL;
    "foreign": "Steered here, but no datagram to this node: another address or checksum.", "Growing: attach the program anew with the node's own port.";
    "kernel_limited": "Came through the kernel's socket beside the fast path, and more than may.", "Packets are not steered: mixctl xdp status says why.";
    "corrupt": "An entry of a ring that makes no sense.", "Report it, with the NIC's driver and its version.";
};

/// What each drop of the XDP program means; none for what it passes on.
pub const fn xdp(reason: Reason) -> Option<Meaning> {
    let (meaning, remedy) = match reason {
        Reason::Unconfigured
        | Reason::Truncated
        | Reason::NotIp
        | Reason::ManyTags
        | Reason::OtherVlan
        | Reason::NotUdp
        | Reason::LaterFragment
        | Reason::OtherPort
        | Reason::OtherHost
        | Reason::KernelSocket
        | Reason::Steered => return None,
        Reason::ManyExtensions => (
            "More IPv6 extension headers than anybody needs.",
            STRANGERS_XDP,
        ),
        Reason::Fragment => (
            "A fragment for the node's port: no node sends any.",
            "From members all the time: an MTU below 1,280 on the way. Else nothing.",
        ),
        Reason::Options => (
            "IP options or extension headers: no node sends any.",
            STRANGERS_XDP,
        ),
        Reason::WrongSize => ("Not 1,232 bytes: none of the network's.", STRANGERS_XDP),
        Reason::UnknownType => ("A kind the link protocol does not have.", STRANGERS_XDP),
        Reason::Reserved => ("A handshake whose zero bytes are not.", STRANGERS_XDP),
        Reason::UnknownIndex => (
            "A frame of a session that is over, or never was.",
            "Nothing, within a minute after a restart. Else it is shed at the least cost there is.",
        ),
        Reason::SourceRate => (
            "One address sends more than its part: a flood, or somebody who forges a node's frames.",
            "A node of the network: raise --capacity-pps of mixctl xdp attach. Else nothing.",
        ),
        Reason::StrangerRate => (
            "An address sends for a session that is not its own, faster than strangers may.",
            STRANGERS_XDP,
        ),
        Reason::HandshakeMemberRate => (
            "A node of the network shakes hands without end: it falls and rises, or its answers do not reach it.",
            "Tell its operator.",
        ),
        Reason::HandshakeSourceRate => ("One address shakes hands too often.", STRANGERS_XDP),
        Reason::HandshakeCookieRate => (
            "More handshakes that show their cookie than this CPU takes: many clients at once, or a flood from real addresses.",
            STRANGERS_XDP,
        ),
        Reason::HandshakeRate => (
            "More first handshakes than this CPU takes: a flood.",
            STRANGERS_XDP,
        ),
    };
    Some(Meaning {
        reason: reason.name(),
        meaning,
        remedy,
    })
}

const STRANGERS_XDP: &str = "Nothing: it is dropped where it costs least.";

/// What `reason` of `source` means, if it is a drop.
pub fn find(source: Source, reason: &str) -> Option<Meaning> {
    all().find_map(|(of, meaning)| (of == source && meaning.reason == reason).then_some(meaning))
}

/// Every drop that there is.
pub fn all() -> impl Iterator<Item = (Source, Meaning)> {
    let of = |source: Source| move |meaning: &Meaning| (source, *meaning);
    let xdp = Reason::ALL.iter().filter_map(|reason| xdp(*reason));
    xdp.map(|meaning| (Source::Xdp, meaning))
        .chain(KERNEL.iter().map(of(Source::Kernel)))
        .chain(NODE.iter().map(of(Source::Node)))
}

/// The table as a page for operators.
pub fn page() -> String {
    let mut page = String::from(
        "# Why packets are dropped\n\
         Every drop has one reason. `mixctl why-dropped` shows those of a node, the metrics `mixnode_rejected_total`,\n\
         `mixnode_xdp_shed_total` and `mixctl xdp stats` count them. This page is printed by `mixctl why-dropped --all`.\n\n\
         | where | reason | what it means | what to do |\n|---|---|---|---|\n",
    );
    for (source, of) in all() {
        let line = [source.name(), of.reason, of.meaning, of.remedy].join(" | ");
        page.push_str(&format!("| {line} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_abi::Action;

    #[test]
    fn each_drop_of_the_program_is_explained_and_what_it_lets_by_is_not() {
        for reason in Reason::ALL {
            let drops = reason.action() == Action::Drop;
            assert_eq!(xdp(*reason).is_some(), drops, "{}", reason.name());
        }
        assert_eq!(find(Source::Xdp, "steered"), None);
        assert_eq!(
            find(Source::Xdp, "wrong_size").map(|found| found.reason),
            Some("wrong_size")
        );
    }

    #[test]
    fn each_reason_is_there_once_and_says_what_to_do_in_sentences() {
        let mut seen = std::collections::BTreeSet::new();
        for (source, of) in all() {
            assert!(seen.insert((source, of.reason)), "{} twice", of.reason);
            for text in [of.meaning, of.remedy] {
                assert!(text.ends_with('.') && text.len() > 7, "{text}");
                assert!(!text.contains('|'), "{text}");
            }
            assert!(page().contains(of.meaning));
        }
    }
}

//! Every family: its name, what it says, and what an operator should do.

use super::exposition::{Exposition, Kind};
use handover::status::{Anonymity, Found};

use super::{Facts, Standing, Usage, XdpFacts};
use crate::handshake::HandshakeCounters;
use crate::path::counters::{Counters, Distributions, FastPath};
use crate::path::reason::Reason;
use crate::process::sandbox::Extent;

/// Bounds of the histograms. Times in microseconds: releases are late by far less than holds last.
const LATENESS_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
];
const HOLD_US: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
const LOOP_US: &[u64] = &[
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];
const BATCH_PACKETS: &[u64] = &[1, 2, 4, 8, 16, 24, 32, 48, 64];

/// What one scrape shows.
pub(super) struct Scrape<'a> {
    pub counters: &'a Counters,
    /// Distributions since the start.
    pub totals: &'a Distributions,
    pub handshakes: &'a HandshakeCounters,
    pub facts: &'a Facts,
    pub standing: &'a Standing,
    pub is_ready: bool,
    pub found: &'a Found,
    pub anonymity: &'a Anonymity,
    pub usage: Option<&'a Usage>,
}

/// The exposition text.
pub(super) fn render(scrape: &Scrape<'_>) -> String {
    let mut into = Exposition::default();
    node(&mut into, scrape);
    frames(&mut into, scrape.counters);
    loops(&mut into, scrape.counters, scrape.found);
    anonymity(&mut into, scrape.anonymity);
    handshakes(&mut into, scrape.handshakes);
    restarts(&mut into, scrape.counters);
    gauges(&mut into, scrape.counters);
    if let Some(xdp) = &scrape.facts.xdp {
        fast_path(&mut into, xdp, &scrape.counters.fast_path);
    }
    distributions(&mut into, scrape.totals);
    if let Some(usage) = scrape.usage {
        usage.render(&mut into);
    }
    into.into_text()
}

fn node(into: &mut Exposition, scrape: &Scrape<'_>) {
    let (facts, standing) = (scrape.facts, scrape.standing);
    let version = directory::version();
    into.family(
        "mixnode_info",
        Kind::Gauge,
        "Port, backend and version in use, and where the epoch keys came from at the start: new, or kept or returned by mixctld.",
    )
    .sample(
        &[
            ("port", facts.port),
            ("lanes", facts.lanes),
            ("keys", facts.keys_origin),
            ("version", version),
        ],
        1,
    );
    into.family(
        "mixnode_build_info",
        Kind::Gauge,
        "What this program was built from.",
    )
    .sample(&[("version", version)], 1);
    let mut sandbox = into.family(
        "mixnode_sandbox",
        Kind::Gauge,
        "Parts of the sandbox: 1 in force, 0.5 as far as this kernel knows it, 0 missing.",
    );
    for (part, extent) in facts.confinement.parts() {
        let share = match extent {
            Extent::None => 0.0,
            Extent::Partial => 0.5,
            Extent::Full => 1.0,
        };
        sandbox.sample(&[("part", part)], share);
    }
    into.gauge(
        "mixnode_epoch",
        standing.epoch,
        "The epoch of now; 0 while no document tells the network's beginning.",
    );
    into.gauge(
        "mixnode_listed",
        u8::from(standing.is_listed),
        "1 if this epoch's document gives the node, with its key, a place. 0 for longer than three epochs: it was drained or paused, is not admitted, or its descriptor does not reach the authorities.",
    );
    into.gauge(
        "mixnode_identity_elsewhere",
        u8::from(standing.is_elsewhere),
        "1 if another host uses this node's identity: the newest document lists it with another address or key. Stop the other, or give it a state_dir of its own.",
    );
    if let Some(age) = standing.document_age {
        into.gauge(
            "mixnode_document_age_seconds",
            age.as_secs_f64(),
            "Since the epoch of the newest document began. Over the length of an epoch: documents do not arrive.",
        );
    }
    into.gauge(
        "mixnode_ready",
        u8::from(scrape.is_ready),
        "What /readyz says: 1 if the node would forward a packet now.",
    );
}

fn frames(into: &mut Exposition, counters: &Counters) {
    into.counter(
        "mixnode_received_total",
        counters.received,
        "Datagrams that arrived.",
    );
    let datagram = link::DATAGRAM_BYTES as u64;
    let sized = counters
        .received
        .saturating_sub(counters.rejected(Reason::Size));
    into.counter(
        "mixnode_received_bytes_total",
        sized * datagram,
        "UDP payload that arrived in datagrams of the one right size.",
    );
    into.counter(
        "mixnode_generated_total",
        counters.generated,
        "Frames the node made: cover, handshakes, answers, hand-overs.",
    );
    into.counter(
        "mixnode_transmitted_total",
        counters.transmitted,
        "Frames sent, to other nodes and in slots of clients' streams alike.",
    );
    into.counter(
        "mixnode_transmitted_bytes_total",
        counters.transmitted * datagram,
        "UDP payload sent, deliveries to clients among it.",
    );
    into.counter(
        "mixnode_absorbed_total",
        counters.absorbed,
        "Frames that ended here as they should.",
    );
    let mut rejected = into.family(
        "mixnode_rejected_total",
        Kind::Counter,
        "Frames dropped, by reason. pool_full or client_queue_full: the node is too small; mac, forged, replay: someone tries.",
    );
    for reason in Reason::ALL {
        rejected.sample(&[("reason", reason.name())], counters.rejected(*reason));
    }
    into.counter(
        "mixnode_strayed_total",
        counters.strayed,
        "Frames that landed on another worker than their session's.",
    );
    into.counter(
        "mixnode_transmit_failed_total",
        counters.transmit_failed,
        "Datagrams the kernel refused to send.",
    );
    into.counter(
        "mixnode_transmit_dropped_total",
        counters.transmit_dropped,
        "Datagrams to strangers who have not answered yet, dropped since they would have held others up. Growing: made-up sources.",
    );
    into.counter(
        "mixnode_kernel_dropped_total",
        counters.kernel_dropped,
        "Datagrams the kernel dropped at the socket: of another length, or since the receive buffer was full.",
    );
    into.counter(
        "mixnode_turns_total",
        counters.turns,
        "Turns of all workers: the heartbeat. If it stands still, a worker is stuck.",
    );
}

fn loops(into: &mut Exposition, counters: &Counters, found: &Found) {
    into.counter(
        "mixnode_loop_sent_total",
        counters.loop_sent,
        "Loop packets sent. If it stands still, cover has stopped.",
    );
    into.counter(
        "mixnode_loop_returned_total",
        counters.loop_returned,
        "Loop packets that came back in time.",
    );
    into.counter(
        "mixnode_loop_lost_total",
        counters.loop_lost,
        "Loop packets that were not home when they were due. A growing share: somebody loses packets; mixctl loops says who.",
    );
    into.counter(
        "mixnode_loop_late_total",
        counters.loop_late,
        "Of the lost ones, such as came back later. Growing: the way around the network is slow, or a node on it is.",
    );
    into.gauge(
        "mixnode_loops_measured",
        u8::from(!found.is_unmeasured),
        "1 while something is known of loop packets. 0: none are sent, for the node has no place, or this machine is too late to judge; then nothing is held against anybody.",
    );
    into.gauge(
        "mixnode_n1_suspected",
        u8::from(found.n1_suspected),
        "1 while loop packets come home on no way. Somebody may keep others' packets from this node to know the few that pass, or its own network fails: ask the provider.",
    );
    if let Some(silent) = found.previous_silent {
        into.gauge(
            "mixnode_previous_silent_ratio",
            f64::from(silent) / f64::from(found.previous.max(1)),
            "Share of the nodes of the layer before from which nothing has come for longer than chance explains. While n-1 is suspected: near 1, packets are kept from this node or its host takes none in; near 0, they come, and it is this node's own that do not get out. Absent while nothing can be told.",
        );
    }
    into.gauge(
        "mixnode_bad_hops",
        found.bad.len(),
        "Nodes through which loop packets do not come home while others do. mixctl loops says which; their operators know why.",
    );
}

fn anonymity(into: &mut Exposition, anonymity: &Anonymity) {
    let mut bits = into.family(
        "mixnode_anonymity_log2_packets",
        Kind::Gauge,
        "log2 of the packets that a worker held when it let one go, mean over what left in a second and in five minutes; without_largest: less what one neighbour had there. What a watcher of this node alone is left with, a bit more is twice as many. Low: more traffic, fewer workers or longer delays.",
    );
    for (kind, tenths) in [
        ("second", anonymity.short),
        ("second_without_largest", anonymity.short_apart),
        ("five_minutes", anonymity.long),
        ("five_minutes_without_largest", anonymity.long_apart),
    ] {
        if let Some(tenths) = tenths {
            bits.sample(&[("kind", kind)], f64::from(tenths) / 10.0);
        }
    }
    into.gauge(
        "mixnode_anonymity_floor_log2_packets",
        f64::from(anonymity.floor) / 10.0,
        "[anonymity] floor_bits: below it for five minutes the node warns.",
    );
}

fn handshakes(into: &mut Exposition, handshakes: &HandshakeCounters) {
    let mut family = into.family(
        "mixnode_handshakes_total",
        Kind::Counter,
        "Handshakes by outcome. cookie: given to who has not shown one; over_rate: gave way in a full queue, its source sends more than its turn; bad_mac1, forged, stranger, duplicate, unasked: refused, someone tries; unusable: the consensus carries a key that is none; undelivered: a worker's mailbox was full; unadmitted: the loader did not let the index in.",
    );
    for (outcome, count) in handshakes.named() {
        family.sample(&[("outcome", outcome)], count);
    }
}

fn restarts(into: &mut Exposition, counters: &Counters) {
    let mut family = into.family(
        "mixnode_restart_notices_total",
        Kind::Counter,
        "What nodes say of their restarts. told: frames in which this node said so of its own, three a neighbour; heard: times that a next hop did. heard growing all the time: a node that falls and rises, or that makes others shake hands.",
    );
    for (direction, count) in [
        ("told", counters.restarts_told),
        ("heard", counters.restarts_heard),
    ] {
        family.sample(&[("direction", direction)], count);
    }
}

fn gauges(into: &mut Exposition, counters: &Counters) {
    into.gauge(
        "mixnode_held_frames",
        counters.held,
        "Packets held now. Few: little anonymity.",
    );
    into.gauge(
        "mixnode_pool_frames",
        counters.pool_frames,
        "Frames of all pools.",
    );
    into.gauge(
        "mixnode_pool_in_use_frames",
        counters.pool_in_use,
        "Frames in use. Near the total: raise [worker] pool_frames.",
    );
    into.gauge(
        "mixnode_unconserved_frames",
        counters.unconserved,
        "Frames that the workers' accounts do not explain. Must be 0. If not, this program has a defect: report it with all of mixnode_*; restart the node before the number comes near mixnode_pool_frames.",
    );
    into.gauge("mixnode_clients", counters.clients, "Clients attached.");
    into.counter(
        "mixnode_clients_refused_total",
        counters.clients_refused,
        "Attach frames that found no place. Growing: raise [gateway] clients_max, or one network has its part and wants more.",
    );
    into.counter(
        "mixnode_clients_displaced_total",
        counters.clients_displaced,
        "Attached clients that gave their place in a full gateway to one of a network with fewer.",
    );
    into.gauge("mixnode_sessions", counters.sessions, "Sessions open.");
    into.gauge(
        "mixnode_half_open_sessions",
        counters.half_open,
        "Sessions that wait for their first frame. Always near 512 a worker: someone opens them and never speaks.",
    );
    let mut family = into.family(
        "mixnode_session_outcomes_total",
        Kind::Counter,
        "Answered handshakes by what became of them. confirmed: had their first frame; half_open_evicted: gave way to newer ones before; evicted: a stranger's that gave way to another's; full: no room; index_in_use: a living session had the number.",
    );
    for (outcome, count) in counters.session_outcomes.named() {
        family.sample(&[("outcome", outcome)], count);
    }
}

/// The fast path's own.
fn fast_path(into: &mut Exposition, xdp: &XdpFacts, counts: &FastPath) {
    into.family("mixnode_xdp_info", Kind::Gauge, "How the fast path runs.")
        .sample(
            &[
                ("mode", xdp.mode_name()),
                ("zero_copy", xdp.zero_copy_name()),
            ],
            1,
        );
    let mut family = into.family(
        "mixnode_through_kernel_total",
        Kind::Counter,
        "Datagrams beside the fast path, through the kernel's socket. Growing when received: packets are not steered; when transmitted: next hops are not resolved.",
    );
    for (direction, count) in [
        ("received", counts.received_through_kernel),
        ("transmitted", counts.transmitted_through_kernel),
    ] {
        family.sample(&[("direction", direction)], count);
    }
    let mut family = into.family(
        "mixnode_xdp_shed_total",
        Kind::Counter,
        "What the fast path lost before the worker saw it, by cause. ring_full: the worker is too slow; fill_empty: the pool is too small.",
    );
    for (cause, count) in [
        ("ring_full", counts.ring_full),
        ("fill_empty", counts.fill_empty),
        ("foreign", counts.foreign),
        ("kernel_limited", counts.kernel_limited),
        ("corrupt", counts.corrupt),
    ] {
        family.sample(&[("cause", cause)], count);
    }
}

/// Since the start, as Prometheus wants it: it takes differences itself.
fn distributions(into: &mut Exposition, totals: &Distributions) {
    let mut family = |name, help, histogram, bounds, per_unit| {
        into.family(name, Kind::Histogram, help)
            .histogram(histogram, bounds, per_unit);
    };
    family(
        "mixnode_lateness_seconds",
        "How late packets left. Over 5 ms: the core is overloaded.",
        &totals.lateness_us,
        LATENESS_US,
        1e6,
    );
    family(
        "mixnode_hold_seconds",
        "How long packets were held.",
        &totals.hold_us,
        HOLD_US,
        1e6,
    );
    family(
        "mixnode_loop_seconds",
        "Round trip of loop packets.",
        &totals.loop_us,
        LOOP_US,
        1e6,
    );
    family(
        "mixnode_unwrap_batch_packets",
        "Packets opened together.",
        &totals.unwrap_batch,
        BATCH_PACKETS,
        1.0,
    );
}

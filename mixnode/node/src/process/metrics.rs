//! `/metrics` and `/healthz` on a loopback address. Coarse on purpose: no label names a peer, a client or a path.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hdrhistogram::Histogram;
use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::handshake::HandshakeCounters;
use crate::path::counters::{Counters, Distributions, FastPath};
use crate::path::reason::Reason;
use crate::process::sandbox::{Confinement, Extent};
use crate::process::status::Collector;
use handover::protocol::Mode;

/// Requests are one line and some headers; no more is read.
const REQUEST_BYTES_MAX: usize = 2048;
const PATIENCE: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_millis(50);

/// What a scrape shows beside the counters.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The port in use.
    pub port: &'static str,
    /// The scalar multiplication's backend.
    pub lanes: &'static str,
    /// What the node gave up.
    pub confinement: Confinement,
    /// The XDP front end, if packets come through it.
    pub xdp: Option<XdpFacts>,
}

/// What the loader said of the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpFacts {
    /// The interface's name.
    pub interface: String,
    /// How the program runs.
    pub mode: Mode,
    /// Whether the driver reads and writes packet memory itself.
    pub zero_copy: bool,
}

impl XdpFacts {
    /// `native` or `generic`.
    pub fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }

    /// `no`, or `unverified`: the driver took it, but no NIC that does was at hand when this was made.
    pub fn zero_copy_name(&self) -> &'static str {
        if self.zero_copy { "unverified" } else { "no" }
    }
}

/// Where a scrape reads.
pub struct Sources {
    /// The workers' counters.
    pub collector: Collector,
    /// The handshake thread's.
    pub handshakes: Mutex<HandshakeCounters>,
    /// What is known beside counters.
    pub facts: ArcSwap<Facts>,
}

impl Sources {
    fn render(&self) -> String {
        let handshakes = *self
            .handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let facts = self.facts.load();
        self.collector
            .for_scrape(|counters, recent| render(counters, recent, &handshakes, &facts))
    }
}

/// Binds the management address.
///
/// # Errors
/// What the kernel answered.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `stop`. One connection at a time: this is for one scraper.
pub fn serve(listener: &TcpListener, sources: &Sources, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A scraper that goes away early is its own loss.
            Ok((stream, _)) => {
                let _ = answer(stream, sources);
            }
            Err(_) => std::thread::sleep(NAP),
        }
    }
}

fn answer(mut stream: TcpStream, sources: &Sources) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::with_capacity(REQUEST_BYTES_MAX);
    let mut part = [0; 512];
    while request.len() < REQUEST_BYTES_MAX && !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => break,
            count => request.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
    let line = request
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let (status, body) = match line {
        [b'G', b'E', b'T', b' ', rest @ ..] if rest.starts_with(b"/metrics ") => {
            ("200 OK", sources.render())
        }
        [b'G', b'E', b'T', b' ', rest @ ..] if rest.starts_with(b"/healthz ") => {
            ("200 OK", "ok\n".to_owned())
        }
        _ => (
            "404 Not Found",
            "there are /metrics and /healthz\n".to_owned(),
        ),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The exposition text.
pub fn render(
    counters: &Counters,
    recent: &Distributions,
    handshakes: &HandshakeCounters,
    facts: &Facts,
) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    with_local_recorder(&recorder, || {
        describe();
        counter!("mixnode_received_total").absolute(counters.received);
        counter!("mixnode_generated_total").absolute(counters.generated);
        counter!("mixnode_transmitted_total").absolute(counters.transmitted);
        counter!("mixnode_delivered_total").absolute(counters.delivered);
        counter!("mixnode_absorbed_total").absolute(counters.absorbed);
        for reason in Reason::ALL {
            counter!("mixnode_rejected_total", "reason" => reason.name())
                .absolute(counters.rejected(*reason));
        }
        counter!("mixnode_loop_sent_total").absolute(counters.loop_sent);
        counter!("mixnode_loop_returned_total").absolute(counters.loop_returned);
        counter!("mixnode_loop_lost_total").absolute(counters.loop_lost);
        counter!("mixnode_strayed_total").absolute(counters.strayed);
        counter!("mixnode_transmit_failed_total").absolute(counters.transmit_failed);
        counter!("mixnode_turns_total").absolute(counters.turns);
        for (outcome, count) in handshakes.named() {
            counter!("mixnode_handshakes_total", "outcome" => outcome).absolute(count);
        }
        for (part, extent) in facts.confinement.parts() {
            let share = match extent {
                Extent::None => 0.0,
                Extent::Partial => 0.5,
                Extent::Full => 1.0,
            };
            gauge!("mixnode_sandbox", "part" => part).set(share);
        }
        gauge!("mixnode_held_frames").set(counters.held as f64);
        gauge!("mixnode_pool_frames").set(counters.pool_frames as f64);
        gauge!("mixnode_pool_in_use_frames").set(counters.pool_in_use as f64);
        gauge!("mixnode_unconserved_frames").set(counters.unconserved as f64);
        gauge!("mixnode_clients").set(counters.clients as f64);
        gauge!("mixnode_sessions").set(counters.sessions as f64);
        gauge!("mixnode_half_open_sessions").set(counters.half_open as f64);
        for (outcome, count) in counters.session_outcomes.named() {
            counter!("mixnode_session_outcomes_total", "outcome" => outcome).absolute(count);
        }
        gauge!("mixnode_info", "port" => facts.port, "lanes" => facts.lanes, "version" => directory::version())
            .set(1.0);
        if let Some(xdp) = &facts.xdp {
            render_xdp(xdp, &counters.fast_path);
        }
        quantiles("mixnode_lateness_seconds", &recent.lateness_us, 1e-6);
        quantiles("mixnode_hold_seconds", &recent.hold_us, 1e-6);
        quantiles("mixnode_loop_seconds", &recent.loop_us, 1e-6);
        quantiles("mixnode_unwrap_batch_packets", &recent.unwrap_batch, 1.0);
    });
    handle.render()
}

/// The fast path's own.
fn render_xdp(xdp: &XdpFacts, counts: &FastPath) {
    gauge!("mixnode_xdp_info", "mode" => xdp.mode_name(), "zero_copy" => xdp.zero_copy_name())
        .set(1.0);
    for (direction, count) in [
        ("received", counts.received_through_kernel),
        ("transmitted", counts.transmitted_through_kernel),
    ] {
        counter!("mixnode_through_kernel_total", "direction" => direction).absolute(count);
    }
    for (cause, count) in [
        ("ring_full", counts.ring_full),
        ("fill_empty", counts.fill_empty),
        ("foreign", counts.foreign),
        ("corrupt", counts.corrupt),
    ] {
        counter!("mixnode_xdp_shed_total", "cause" => cause).absolute(count);
    }
}

/// Quantiles since the last scrape; none where nothing was recorded.
fn quantiles(name: &'static str, histogram: &Histogram<u64>, unit: f64) {
    if histogram.is_empty() {
        return;
    }
    for (label, quantile) in [("0.5", 0.5), ("0.99", 0.99), ("1", 1.0)] {
        gauge!(name, "quantile" => label).set(histogram.value_at_quantile(quantile) as f64 * unit);
    }
}

fn describe() {
    describe_counter!("mixnode_received_total", "Datagrams that arrived.");
    describe_counter!(
        "mixnode_generated_total",
        "Frames the node made: cover, handshakes, answers, hand-overs."
    );
    describe_counter!(
        "mixnode_transmitted_total",
        "Frames sent, deliveries to clients not among them."
    );
    describe_counter!("mixnode_delivered_total", "Deliveries sent to clients.");
    describe_counter!(
        "mixnode_absorbed_total",
        "Frames that ended here as they should."
    );
    describe_counter!(
        "mixnode_rejected_total",
        "Frames dropped, by reason. pool_full or client_queue_full: the node is too small; mac, forged, replay: someone tries."
    );
    describe_counter!(
        "mixnode_loop_sent_total",
        "Loop packets sent. If it stands still, cover has stopped."
    );
    describe_counter!(
        "mixnode_loop_returned_total",
        "Loop packets that came back."
    );
    describe_counter!(
        "mixnode_loop_lost_total",
        "Loop packets given up. A growing share: a neighbour loses packets."
    );
    describe_counter!(
        "mixnode_strayed_total",
        "Frames that landed on another worker than their session's."
    );
    describe_counter!(
        "mixnode_transmit_failed_total",
        "Datagrams the kernel refused to send."
    );
    describe_counter!(
        "mixnode_turns_total",
        "Turns of all workers: the heartbeat. If it stands still, a worker is stuck."
    );
    describe_counter!(
        "mixnode_handshakes_total",
        "Handshakes by outcome. cookie: given to who has not shown one; bad_mac1, forged, stranger, duplicate, unasked: refused, someone tries; unusable: the consensus carries a key that is none; undelivered: a worker's mailbox was full; unadmitted: the loader did not let the index in."
    );
    describe_gauge!("mixnode_xdp_info", "How the fast path runs.");
    describe_counter!(
        "mixnode_through_kernel_total",
        "Datagrams beside the fast path, through the kernel's socket. Growing when received: packets are not steered; when transmitted: next hops are not resolved."
    );
    describe_counter!(
        "mixnode_xdp_shed_total",
        "What the fast path lost before the worker saw it, by cause. ring_full: the worker is too slow; fill_empty: the pool is too small."
    );
    describe_gauge!(
        "mixnode_sandbox",
        "Parts of the sandbox: 1 in force, 0.5 as far as this kernel knows it, 0 missing."
    );
    describe_gauge!(
        "mixnode_held_frames",
        "Packets held now. Few: little anonymity."
    );
    describe_gauge!("mixnode_pool_frames", "Frames of all pools.");
    describe_gauge!(
        "mixnode_pool_in_use_frames",
        "Frames in use. Near the total: raise [worker] pool_frames."
    );
    describe_gauge!(
        "mixnode_unconserved_frames",
        "Frames that the workers' accounts do not explain. Must be 0. If not, this program has a defect: report it with all of mixnode_*; restart the node before the number comes near mixnode_pool_frames."
    );
    describe_gauge!("mixnode_clients", "Clients attached.");
    describe_gauge!("mixnode_sessions", "Sessions open.");
    describe_gauge!(
        "mixnode_half_open_sessions",
        "Sessions that wait for their first frame. Always near 512 a worker: someone opens them and never speaks."
    );
    describe_counter!(
        "mixnode_session_outcomes_total",
        "Answered handshakes by what became of them. confirmed: had their first frame; half_open_evicted: gave way to newer ones before; evicted: a stranger's that gave way to another's; full: no room; index_in_use: a living session had the number."
    );
    describe_gauge!("mixnode_info", "Port, backend and version in use.");
    describe_gauge!(
        "mixnode_lateness_seconds",
        "How late packets left, since the last scrape. Over 5 ms: the core is overloaded."
    );
    describe_gauge!(
        "mixnode_hold_seconds",
        "How long packets were held, since the last scrape."
    );
    describe_gauge!(
        "mixnode_loop_seconds",
        "Round trip of loop packets, since the last scrape."
    );
    describe_gauge!(
        "mixnode_unwrap_batch_packets",
        "Packets opened together, since the last scrape."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_every_reason_and_no_peer() {
        let mut recent = Distributions::new().unwrap();
        recent.hold_us.saturating_record(20_000);
        let text = render(
            &Counters::default(),
            &recent,
            &HandshakeCounters::default(),
            &Facts {
                port: "sim",
                lanes: "portable",
                confinement: Confinement::default(),
                xdp: Some(XdpFacts {
                    interface: "eth0".to_owned(),
                    mode: Mode::Generic,
                    zero_copy: true,
                }),
            },
        );
        for reason in Reason::ALL {
            assert!(
                text.contains(&format!("reason=\"{}\"", reason.name())),
                "{text}"
            );
        }
        assert!(
            text.contains("mixnode_xdp_info{mode=\"generic\",zero_copy=\"unverified\"} 1"),
            "{text}"
        );
        for forbidden in ["peer", "client=", "address", "127.", "tag="] {
            assert!(!text.contains(forbidden), "{forbidden} in\n{text}");
        }
        let named = |line: &str| {
            line.starts_with("# HELP") || line.starts_with("# TYPE") || line.is_empty()
        };
        assert!(
            text.lines()
                .all(|line| named(line) || line.starts_with("mixnode_"))
        );
    }
}

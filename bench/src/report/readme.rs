//! The README's figures: a block between two marks, made of stored results and of nothing else.

use std::fmt::Write;

use super::figures::{anonymity, crypto, hop::times, lockstep, network, paced, row};
use super::stored::Stored;
use crate::envelope::Results;
use crate::rows::{Row, micros, thousands};

pub(super) const FROM: &str = "<!-- figures: made by mixbench report --readme -->";
pub(super) const TO: &str = "<!-- end of figures -->";

/// The block, with its marks.
pub(super) fn block(stored: &Stored) -> String {
    let mut out = format!("{FROM}\n");
    if stored.all.is_empty() {
        out.push_str(
            "No results of a quiet machine are committed yet; `bench/figures` makes them.\n",
        );
        return out + TO + "\n";
    }
    let machines = stored.all.iter().map(|one| {
        let machine = &one.envelope.machine;
        let kind = if machine.is_virtual { "a virtual " } else { "" };
        format!(
            "Measured on {} on {kind}{}, {} cores, lanes {}, Linux {}, commit {}",
            one.envelope.started.get(..10).unwrap_or("?"),
            machine.cpu,
            machine.cores,
            machine.lanes,
            machine.kernel,
            one.envelope.commit
        )
    });
    let _ = writeln!(out, "{}.", super::distinct(machines));
    let warnings = super::warnings(stored);
    if !warnings.is_empty() {
        out.push_str("These are not figures of a quiet machine:\n");
        for warning in warnings {
            let _ = writeln!(out, "- {warning}");
        }
    }
    hops(&mut out, stored);
    ports(&mut out, stored);
    nodes(&mut out, stored);
    sustained(&mut out, stored);
    peers(&mut out, stored);
    whole(&mut out, stored);
    watched(&mut out, stored);
    out.push_str(TO);
    out.push('\n');
    out
}

fn hops(out: &mut String, stored: &Stored) {
    let Some((one, rows)) = crypto(stored) else {
        return;
    };
    let ratios = &one.envelope.ratios;
    let beside = |names: &[(&str, &str)]| {
        let all = names
            .iter()
            .filter_map(|(name, peer)| Some(format!("{} {peer}", times(ratios.get(*name)?))));
        all.collect::<Vec<_>>().join(", ")
    };
    let full = Some(sphinx::BATCH_MAX);
    let lanes = format!("x25519 ours, {}", one.envelope.machine.lanes);
    let named = |name: &str| rows.iter().find(|row| row.name == name);
    let shown: [(&str, Option<&Row>, String); 12] = [
        (
            "a hop, native suite, in batches",
            row(rows, "hop native", full),
            beside(&[("hop_native_vs_sphinx_packet", "sphinx-packet")]),
        ),
        (
            "a hop, suite `nym`, in batches",
            row(rows, "hop nym", full),
            beside(&[("hop_nym_vs_sphinx_packet", "sphinx-packet, same packets")]),
        ),
        (
            "a hop, sphinx-packet 0.8",
            rows.iter()
                .find(|row| row.name.starts_with("hop sphinx-packet")),
            String::new(),
        ),
        (
            "X25519, in batches",
            row(rows, &lanes, full),
            beside(&[
                ("x25519_vs_aws_lc", "aws-lc-rs"),
                ("x25519_vs_dalek", "x25519-dalek"),
            ]),
        ),
        (
            "X25519, four lanes (AVX2), in batches",
            row(rows, "x25519 ours, avx2", full),
            beside(&[("avx2_x25519_vs_aws_lc", "aws-lc-rs")]),
        ),
        (
            "X25519, aws-lc-rs",
            named("x25519 aws-lc-rs"),
            String::new(),
        ),
        ("X25519, graviola", named("x25519 graviola"), String::new()),
        (
            "X25519, x25519-dalek",
            rows.iter().find(|row| row.name.contains("dalek")),
            String::new(),
        ),
        (
            "wrapping a packet for five hops, alone",
            row(rows, "wrap native, five hops", Some(1)),
            String::new(),
        ),
        (
            "wrapping a packet for five hops, in eights",
            row(rows, "wrap native, five hops", Some(8)),
            String::new(),
        ),
        (
            "a link frame of 1,232 bytes, seal",
            row(rows, "link seal", full),
            String::new(),
        ),
        (
            "a link frame of 1,232 bytes, open",
            row(rows, "link open", full),
            String::new(),
        ),
    ];
    let _ = writeln!(
        out,
        "\n`{}`\n\n| | CPU µs | times faster |\n|---|---|---|",
        one.command()
    );
    for (name, row, times) in shown {
        if let Some(row) = row {
            let _ = writeln!(
                out,
                "| {name} | {} | {times} |",
                micros(row.spread.median_ns)
            );
        }
    }
}

fn ports(out: &mut String, stored: &Stored) {
    let found = stored.find(|results| match results {
        Results::Ports(rows) => Some(rows),
        _ => None,
    });
    let Some((one, rows)) = found else {
        return;
    };
    let median_ns = |port: &str, what: &str| {
        let name = format!("{port} {what}");
        let row = rows.rows.iter().find(|row| row.name == name);
        row.map(|row| row.spread.median_ns)
    };
    let _ = writeln!(
        out,
        "\n`{}`, as root: ports alone, which receive a datagram and send it on\n\n| port | CPU ns a datagram | the kernel's delivery, which is billed to the sender |\n|---|---|---|",
        one.command()
    );
    for port in ["xsk", "plain", "uring"] {
        let both = median_ns(port, "receive + transmit");
        if let (Some(own), Some(delivery)) = (both, median_ns(port, "delivery")) {
            let _ = writeln!(
                out,
                "| {} | {} | {} |",
                super::port_name(port),
                thousands(own),
                thousands(delivery)
            );
        }
    }
    let among = |port: &str| {
        let name = format!("{port}_receive_among_empty_ones");
        let ratio = one.envelope.ratios.get(&name)?;
        Some(format!("{}: {}", super::port_name(port), times(ratio)))
    };
    let among: Vec<String> = ["plain", "uring"].into_iter().filter_map(among).collect();
    if !among.is_empty() {
        let _ = writeln!(
            out,
            "\nWhat receiving costs beside as many empty datagrams, which the kernel drops at the socket: {}.",
            among.join("; ")
        );
    }
}

fn nodes(out: &mut String, stored: &Stored) {
    let Some((one, lockstep)) = lockstep(stored) else {
        return;
    };
    let _ = writeln!(
        out,
        "\n`{}`, as root: 1,232-byte datagrams to 32 next hops in random order, {}\n\n| port | CPU ns a packet | its 95 % | a core could forward at best | Sphinx and AES-GCM |\n|---|---|---|---|---|",
        one.command(),
        lockstep.network
    );
    for port in &lockstep.ports {
        let spread = &port.cpu_per_packet;
        let share = port.breakdown.as_ref().map_or("-".to_owned(), |parts| {
            format!(
                "{:.0} %",
                (parts.sphinx_ns + parts.link_ns) / parts.sum_ns * 100.0
            )
        });
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {share} |",
            super::port_name(&port.port),
            thousands(spread.median_ns),
            spread.median_95_ns.map(thousands).join(" to "),
            super::a_core(port)
        );
    }
    let ratios = one.envelope.ratios.iter();
    let named = ratios.map(|(name, ratio)| format!("{}: {}", name.replace('_', " "), times(ratio)));
    let _ = writeln!(out, "\n{}.", named.collect::<Vec<_>>().join("; "));
}

/// What a core sustains stands beside what it could do at best.
fn sustained(out: &mut String, stored: &Stored) {
    let Some((one, paced)) = paced::find(stored) else {
        return;
    };
    let _ = writeln!(
        out,
        "\n`{}`, as root: packets at fixed times, whatever becomes of those before them; {}\n\n| port | sustained, 0.1 % lost at most | 25,000 packets/s | lost of them | held up, 99 of 100 at most | the core busy |\n|---|---|---|---|---|---|",
        one.command(),
        paced.cores
    );
    for port in &paced.ports {
        let line = &port.at_25k;
        let _ = writeln!(
            out,
            "| {} | {}/s | {} | {} | {} µs | {:.0} % |",
            super::port_name(&port.port),
            thousands(port.sustained_pps),
            if port.sustained_25k {
                "passed"
            } else {
                "not passed"
            },
            thousands(line.lost as f64),
            thousands(line.added.p99_us as f64),
            line.busy_ratio * 100.0
        );
    }
}

fn whole(out: &mut String, stored: &Stored) {
    let Some((one, report)) = network::find(stored) else {
        return;
    };
    let ms = |us: u64| us as f64 / 1e3;
    let growth = report.memory_growth.map_or(String::new(), |growth| {
        format!(" Memory of all nodes: {:+.1} %.", (growth - 1.0) * 100.0)
    });
    let _ = writeln!(
        out,
        "\n`{}`: {} clients with {} slots a second each for {:.0} s, {} gateways and three layers of {} mixes, {} ms a hop. {} of {} messages lost; one way {:.0} ms, 99 of 100 in {:.0}. {}: D = {:.4} of {} probes.{growth}",
        one.command(),
        thousands(f64::from(report.clients)),
        report.rate_pps,
        report.probing_seconds,
        report.gateways,
        report.mixes,
        report.mean_delay_ms,
        thousands(report.lost_messages as f64),
        thousands((report.probes.sent + report.files.sent) as f64),
        ms(report.one_way.p50_us),
        ms(report.one_way.p99_us),
        network::verdict(report),
        report.theory.ks_d,
        thousands(report.theory.n as f64)
    );
}

/// Who writes to whom, and how soon a node warns.
fn watched(out: &mut String, stored: &Stored) {
    let Some((one, report)) = anonymity::find(stored) else {
        return;
    };
    let curve = |name: &str| report.curves.iter().find(|curve| curve.curve == name);
    let mut said = Vec::new();
    if let Some(curve) = curve("correlation") {
        said.push(format!(
            "Area under the attack's curve, of pairs by their times on the wires. {}",
            curve.reading
        ));
    }
    if let Some(curve) = curve("n1") {
        said.push(format!("n−1: {}. {}", curve.title, curve.reading));
    }
    if !said.is_empty() {
        let _ = writeln!(out, "\n`{}`\n\n- {}", one.command(), said.join("\n- "));
    }
}

fn peers(out: &mut String, stored: &Stored) {
    let found = stored.find(|results| match results {
        Results::Peers(report) => Some(report),
        _ => None,
    });
    let Some((one, report)) = found else {
        return;
    };
    let _ = writeln!(
        out,
        "\n`{}`: a plain node on tokio around sphinx-packet, written here, over TCP on loopback\n\n| | packets/s a core | users' MB/s a core |\n|---|---|---|",
        one.command()
    );
    for row in &report.nodes {
        let _ = writeln!(
            out,
            "| {} | {} | {:.1} |",
            row.name,
            thousands(row.packets_per_s_core),
            row.goodput_bytes_per_s_core / 1e6
        );
    }
    let ratios = one.envelope.ratios.iter();
    let named = ratios.map(|(name, ratio)| format!("{}: {}", name.replace('_', " "), times(ratio)));
    let _ = writeln!(out, "\n{}.", named.collect::<Vec<_>>().join("; "));
}

//! What the cases say together: the sums of a port's halves, and how many times cheaper one port is than another.

use std::collections::BTreeMap;

use super::What;
use crate::cases::Samples;
use crate::stats::Ratio;

const TOTAL: &str = "receive + transmit";

/// A computed row a port: the sum of its two halves, round by round.
pub(super) fn add_totals(samples: &mut Vec<Samples>) {
    for port in [
        "plain",
        "uring",
        "xsk",
        "plain among empty ones",
        "uring among empty ones",
    ] {
        let of = |part: &str| {
            let name = format!("{port} {part}");
            samples.iter().position(|row| row.name == name)
        };
        let (Some(receive), Some(transmit)) = (of("receive"), of("transmit")) else {
            continue;
        };
        let total = Samples {
            name: format!("{port} {TOTAL}"),
            batch: None,
            ns: Samples::sum(&[&samples[receive].ns, &samples[transmit].ns]),
        };
        samples.insert(transmit + 1, total);
    }
}

/// How many times cheaper the first is than the second; among empty datagrams, how many times dearer a burst is.
pub(super) fn ratios(what: What, samples: &[Samples]) -> BTreeMap<String, Ratio> {
    // By name of the ratio, what is summed up.
    let compared: &[(&str, &[&str])] = match what {
        What::Node => &[("node", &[""])],
        What::Ports => &[
            ("ports", &[TOTAL]),
            // On veth this is where XDP costs most: the kernel copies each packet for the program. A NIC's driver
            // hands it the buffer.
            ("ports_with_delivery", &[TOTAL, "delivery"]),
        ],
    };
    let of = |port: &str, parts: &[&str]| -> Option<Vec<f64>> {
        let one = |part: &&str| {
            let name = format!("{port} {part}");
            let row = samples.iter().find(|row| row.name == name.trim_end());
            row.map(|row| row.ns.as_slice())
        };
        Some(Samples::sum(
            &parts.iter().map(one).collect::<Option<Vec<_>>>()?,
        ))
    };
    let mut ratios = BTreeMap::new();
    for (prefix, parts) in compared {
        for (fast, slow) in [("xsk", "uring"), ("xsk", "plain"), ("uring", "plain")] {
            if let (Some(fast_ns), Some(slow_ns)) = (of(fast, parts), of(slow, parts)) {
                ratios.insert(
                    format!("{prefix}_{fast}_vs_{slow}"),
                    Ratio::of(&slow_ns, &fast_ns),
                );
            }
        }
    }
    if what == What::Ports {
        // Junk that the kernel drops at the socket, one for each datagram: what that makes of a burst's cost.
        for port in ["plain", "uring"] {
            let alone = of(port, &["receive"]);
            let among = of(&format!("{port} among empty ones"), &["receive"]);
            if let (Some(alone_ns), Some(among_ns)) = (alone, among) {
                let name = format!("{port}_receive_among_empty_ones");
                ratios.insert(name, Ratio::of(&among_ns, &alone_ns));
            }
        }
    }
    ratios
}

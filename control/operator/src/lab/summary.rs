//! What a transfer came to.

use std::time::Duration;

use serde::Serialize;

use super::hosts::Counted;
use super::table::Screen;

/// Two quantiles of a latency, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of all were faster.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
}

/// The result of `mixctl lab --send`; its JSON form is the last line of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Bytes of the file.
    pub sent_bytes: u64,
    /// Data packets sent, retransmissions included.
    pub packets: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// From the sender's start to its knowledge that all arrived, seconds.
    pub duration_s: f64,
    /// File bytes a second over that time.
    pub goodput_bytes_s: f64,
    /// From sender to receiver and the acknowledgement back, by what the sender remembers: no message says when it
    /// was sent, so there is no one-way time. `None`, in JSON `null`, where the file was complete before an
    /// acknowledgement measured one.
    pub round_trip_ms: Option<Quantiles>,
    /// The received file equals the sent one.
    pub identical: bool,
    /// With `--xdp`: what the front end and the kernel counted meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp: Option<Counted>,
}

/// `12,345,678`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.5 MiB`, `812 bytes`.
pub fn size(bytes: f64) -> String {
    match bytes {
        _ if bytes < 10_240.0 => format!("{bytes:.0} bytes"),
        _ if bytes < 1_048_576.0 * 10.0 => format!("{:.1} KiB", bytes / 1_024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

impl Summary {
    /// For people.
    pub fn show(
        &self,
        screen: &Screen,
        file: &str,
        sent_hash: &str,
        received_hash: &str,
    ) -> String {
        let verdict = if self.identical {
            screen.good(&format!("{file} arrived whole."))
        } else {
            screen.bad(&format!("{file} did NOT arrive whole."))
        };
        let round_trip = self.round_trip_ms.as_ref().map_or_else(
            || "not measured: the file was complete before".to_owned(),
            |q| format!("{:.0} ms median, {:.0} ms p99", q.p50, q.p99),
        );
        let equal = if self.identical { "equal" } else { "DIFFERENT" };
        let duration = Duration::from_secs_f64(self.duration_s.max(0.0)).as_secs_f64();
        let mut lines = vec![
            verdict,
            format!("  size            {} bytes", grouped(self.sent_bytes)),
            format!(
                "  packets         {}, of which {} sent again",
                grouped(self.packets),
                grouped(self.retransmitted)
            ),
            format!(
                "  time            {duration:.1} s, {} a second",
                size(self.goodput_bytes_s)
            ),
            format!("  round trip      {round_trip}"),
            format!("  BLAKE3 sent     {sent_hash}"),
            format!("  BLAKE3 received {received_hash} ({equal})"),
        ];
        if let Some(xdp) = &self.xdp {
            lines.push(format!(
                "  XDP             {} over IPv{}: {} datagrams steered into AF_XDP sockets, {} dropped",
                xdp.mode,
                xdp.ip_version,
                grouped(xdp.steered),
                grouped(xdp.dropped)
            ));
            lines.push(format!(
                "  kernel's UDP    {} datagrams into the nodes' sockets, {} out of them",
                grouped(xdp.kernel_udp_in),
                grouped(xdp.kernel_udp_out)
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_short() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(size(812.0), "812 bytes");
        assert_eq!(size(20_480.0), "20.0 KiB");
        assert_eq!(size(20.0 * 1_048_576.0), "20.0 MiB");
    }

    #[test]
    fn the_json_form_has_the_promised_fields() {
        let summary = Summary {
            sent_bytes: 1,
            packets: 2,
            retransmitted: 3,
            duration_s: 4.0,
            goodput_bytes_s: 5.0,
            round_trip_ms: Some(Quantiles::default()),
            identical: true,
            xdp: None,
        };
        let value = serde_json::to_value(summary).unwrap();
        let fields: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        let mut expected = [
            "sent_bytes",
            "packets",
            "retransmitted",
            "duration_s",
            "goodput_bytes_s",
            "round_trip_ms",
            "identical",
        ];
        let mut fields = fields;
        fields.sort_unstable();
        expected.sort_unstable();
        assert_eq!(fields, expected);
        assert_eq!(value["round_trip_ms"].as_object().unwrap().len(), 2);
    }
}

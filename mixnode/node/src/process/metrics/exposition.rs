//! Prometheus' text format, version 0.0.4: families in the order they are written, each with help and type.

use std::fmt::{Display, Write};

use hdrhistogram::Histogram;

/// The kinds of families there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A text under way.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family. The help says what an operator should do.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string can't fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {word}");
        Family { name, into: self }
    }

    /// A family of one counter without labels.
    pub fn counter(&mut self, name: &'static str, value: u64, help: &str) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    /// A family of one gauge without labels.
    pub fn gauge(&mut self, name: &'static str, value: impl Display, help: &str) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

/// A family under way.
pub(super) struct Family<'a> {
    name: &'static str,
    into: &'a mut Exposition,
}

impl Family<'_> {
    /// One value.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// A histogram since the start: how many recorded values were at most each of `bounds`, all, and their sum; shown
    /// in a unit that `per_unit` of theirs make. Values are known to the precision they were recorded with.
    pub fn histogram(&mut self, histogram: &Histogram<u64>, bounds: &[u64], per_unit: f64) {
        let mut counts = vec![0u64; bounds.len()];
        let mut sum = 0.0;
        for step in histogram.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), step.count_at_value());
            sum += value as f64 * count as f64;
            let at = bounds.partition_point(|bound| *bound < value);
            if let Some(bucket) = counts.get_mut(at) {
                *bucket += count;
            }
        }
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            below += count;
            let bound = (*bound as f64 / per_unit).to_string();
            self.line("_bucket", &[("le", &bound)], below);
        }
        self.line("_bucket", &[("le", "+Inf")], histogram.len());
        self.line("_sum", &[], sum / per_unit);
        self.line("_count", &[], histogram.len());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut self.into.text;
        let _ = write!(text, "{}{suffix}", self.name);
        for (position, (label, value)) in labels.iter().enumerate() {
            let before = if position == 0 { '{' } else { ',' };
            let _ = write!(text, "{before}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_at_most_each_bound() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 2).unwrap();
        for value in [1, 2, 2, 3, 100, 900_000] {
            histogram.saturating_record(value);
        }
        let mut exposition = Exposition::default();
        exposition
            .family("a_packets", Kind::Histogram, "Help.")
            .histogram(&histogram, &[1, 2, 64], 1.0);
        let text = exposition.into_text();
        let lines: Vec<_> = text.lines().take(6).collect();
        assert_eq!(
            lines,
            [
                "# HELP a_packets Help.",
                "# TYPE a_packets histogram",
                "a_packets_bucket{le=\"1\"} 1",
                "a_packets_bucket{le=\"2\"} 3",
                "a_packets_bucket{le=\"64\"} 4",
                "a_packets_bucket{le=\"+Inf\"} 6",
            ]
        );
        assert!(text.ends_with("a_packets_count 6\n"), "{text}");
    }

    #[test]
    fn labels_can_hold_anything() {
        let mut exposition = Exposition::default();
        exposition
            .family("b", Kind::Gauge, "Help.")
            .sample(&[("x", "a\"b\\c\nd"), ("y", "2")], 1);
        let text = exposition.into_text();
        assert!(
            text.ends_with("b{x=\"a\\\"b\\\\c\\nd\",y=\"2\"} 1\n"),
            "{text}"
        );
    }
}

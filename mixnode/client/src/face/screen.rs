//! What the user sees: progress of what is sent, and what arrives.

use std::path::Path;
use std::time::Duration;

use fog::run::{Progress, ReceiveEvent, SendSummary};
use fog::{Phase, Received};
use indicatif::{ProgressBar, ProgressStyle};

/// From this share of lost packets on, the user is told.
const LOSS_TOLD: f64 = 0.1;

/// Progress of a file that is sent.
pub struct Bar(ProgressBar);

impl Bar {
    /// For a file of so many bytes.
    pub fn new(size: u64) -> Self {
        let style = "{spinner} {msg:9} {bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}";
        let bar = ProgressBar::new(size);
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub fn show(&self, progress: &Progress) {
        let phase = match progress.phase {
            Phase::FetchingKey => "key",
            Phase::Waiting => "waiting",
            Phase::Sending => "sending",
            Phase::Paused => "paused: no room at the recipient",
            Phase::Complete => "done",
            Phase::Failed(_) => "failed",
        };
        if progress.loss < LOSS_TOLD {
            self.0.set_message(phase);
        } else {
            let lost = progress.loss * 100.0;
            let text = format!("{phase}, {lost:.0} % of packets are lost");
            self.0.set_message(text);
        }
        let share = u128::from(progress.chunks) * u128::from(progress.size);
        let bytes = share / u128::from(progress.total.max(1));
        let bytes = u64::try_from(bytes).unwrap_or(progress.size);
        self.0.set_position(bytes);
    }

    /// The last of it.
    pub fn end(&self, is_sent: bool) {
        if is_sent {
            self.0.finish();
        } else {
            self.0.abandon();
        }
    }
}

/// What became of a file that was sent.
pub fn sent(summary: &SendSummary) {
    println!(
        "{} bytes in {:.1} s: {} packets, {} chunks sent again, round trip p50 {:.0} ms, p99 {:.0} ms",
        summary.bytes,
        summary.duration.as_secs_f64(),
        summary.packets,
        summary.retransmitted,
        summary.round_trip.quantile_ms(0.5),
        summary.round_trip.quantile_ms(0.99),
    );
}

/// Something happened at a recipient whose files go into `out`.
pub fn received(event: &ReceiveEvent, out: &Path) {
    match event {
        ReceiveEvent::Ready(address) => {
            eprintln!("receiving into {}; your address:\n{address}", out.display());
        }
        ReceiveEvent::Received(Received::Started { manifest, chunks }) => {
            let again = if *chunks > 0 { ", going on" } else { "" };
            eprintln!("{:?}: {} bytes{again}", manifest.name, manifest.size);
        }
        ReceiveEvent::Received(Received::Done { place, .. }) => println!("{place}"),
        ReceiveEvent::Received(Received::Storage(error)) => eprintln!("fog: {error}"),
        ReceiveEvent::Received(Received::Progress { .. }) => {}
    }
}

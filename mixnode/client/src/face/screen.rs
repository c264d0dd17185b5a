//! What the user sees: progress of what is sent, and what arrives.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fog::run::{Progress, ReceiveEvent, SendSummary};
use fog::{Phase, Received};
use indicatif::{ProgressBar, ProgressStyle};

/// Progress of a file that is sent, and whether the gateway was last said to be silent.
pub struct Bar(ProgressBar, Cell<bool>);

impl Bar {
    /// For a file of so many bytes.
    pub fn new(size: u64) -> Self {
        let style = "{spinner} {msg:9} {bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}";
        let bar = ProgressBar::new(size);
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar, Cell::new(false))
    }

    pub fn show(&self, progress: &Progress) {
        if self.1.replace(progress.silent.is_some()) != progress.silent.is_some() {
            self.0.suspend(|| match progress.silent {
                Some(address) => eprintln!("{}", silent(address)),
                None => eprintln!("{BACK}"),
            });
        }
        self.0.set_message(match progress.phase {
            Phase::FetchingKey => "key",
            Phase::Waiting => "waiting",
            Phase::Sending => "sending",
            Phase::Complete => "done",
            Phase::Failed(_) => "failed",
        });
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

const BACK: &str = "the gateway answers again";

fn silent(address: SocketAddr) -> String {
    format!("nothing comes from the gateway at {address}: trying again")
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
        ReceiveEvent::Silent(address) => eprintln!("{}", silent(*address)),
        ReceiveEvent::Back => eprintln!("{BACK}"),
        ReceiveEvent::Received(Received::Started { manifest, chunks }) => {
            let again = if *chunks > 0 { ", going on" } else { "" };
            eprintln!("{:?}: {} bytes{again}", manifest.name, manifest.size);
        }
        ReceiveEvent::Received(Received::Done { place, .. }) => println!("{place}"),
        ReceiveEvent::Received(Received::Storage(error)) => eprintln!("fog: {error}"),
        ReceiveEvent::Received(Received::Progress { .. }) => {}
    }
}

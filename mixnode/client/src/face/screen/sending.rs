//! A file on its way out, for the user.

use std::time::Instant;

use fog::run::{Progress, SendEvent, SendSummary};
use fog::{Pace, Phase};
use serde_json::json;

use super::{Screen, counted, progress_line, size};

/// From this share of lost packets on, the user is told.
const LOSS_TOLD: f64 = 0.1;

/// A file on its way out.
pub struct Sending<'a> {
    screen: &'a mut Screen,
    name: String,
    pace: Pace,
    began: Instant,
    phase: Option<Phase>,
}

impl<'a> Sending<'a> {
    pub fn new(screen: &'a mut Screen, name: String) -> Self {
        Self {
            screen,
            name,
            pace: Pace::default(),
            began: Instant::now(),
            phase: None,
        }
    }

    pub fn show(&mut self, event: &SendEvent) {
        tracing::debug!(?event);
        match event {
            SendEvent::Hashing(done, total) => {
                let text = format!(
                    "hashing: {} of {}  {}",
                    size(*done),
                    size(*total),
                    self.name
                );
                self.screen.draw(&text);
                self.screen.event(
                    &json!({ "event": "hashing", "name": self.name, "bytes": done, "size": total }),
                );
            }
            SendEvent::Waiting(wait) => {
                // Time in which nothing could move says nothing of how fast it moves.
                self.pace = Pace::default();
                self.screen.waiting(wait.as_ref());
            }
            SendEvent::Notice(notice) => self.screen.notice(notice),
            SendEvent::Progress(progress) => self.progress(progress),
            SendEvent::Lingering(time) => self.screen.lingers(*time),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let bytes = progress.bytes();
        let now = self.began.elapsed();
        self.pace.add(now, bytes);
        let phase = phase_word(&progress.phase);
        let is_new = self.phase.as_ref() != Some(&progress.phase);
        self.phase = Some(progress.phase.clone());
        self.screen.event(&json!({
            "event": "progress", "name": self.name, "phase": phase, "bytes": bytes,
            "size": progress.size, "lost_percent": (progress.loss * 100.0).round(),
        }));
        let mut text = match progress.phase {
            Phase::FetchingKey => format!("asking for the recipient's key  {}", self.name),
            Phase::Waiting if bytes == 0 => format!("waiting for the recipient  {}", self.name),
            Phase::Checking => format!("looking whether it has changed  {}", self.name),
            Phase::Paused => format!("paused: no room at the recipient  {}", self.name),
            Phase::Failed(_) => return,
            _ => progress_line(&self.name, bytes, progress.size, &self.pace, now),
        };
        text.push_str(&loss_words(progress));
        if is_new && self.screen.is_terminal {
            self.screen.next = None;
        }
        self.screen.draw(&text);
    }

    /// Says something beside it.
    pub fn note(&mut self, text: &str) {
        self.screen.note(&format!("fog: {text}"));
    }

    /// What became of it.
    pub fn sent(self, summary: &SendSummary) {
        let mut text = format!(
            "{}: {} in {:.1} s: {}, {} sent again",
            self.name,
            counted(summary.bytes, "byte"),
            summary.duration.as_secs_f64(),
            counted(summary.packets, "packet"),
            counted(summary.retransmitted, "chunk"),
        );
        if let Some(trip) = &summary.round_trip_ms {
            let (p50, p99) = (trip.p50, trip.p99);
            text.push_str(&format!(", round trip p50 {p50:.0} ms, p99 {p99:.0} ms"));
        }
        self.screen.result(&text);
        self.screen.event(&json!({
            "event": "sent", "name": self.name, "bytes": summary.bytes, "packets": summary.packets,
            "sent_again": summary.retransmitted, "seconds": summary.duration.as_secs_f64(),
        }));
    }
}

/// A phase in a word for programs.
pub(super) fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::FetchingKey => "key",
        Phase::Waiting => "waiting",
        Phase::Sending => "sending",
        Phase::Checking => "checking",
        Phase::Paused => "paused",
        Phase::Complete => "done",
        Phase::Failed(_) => "failed",
    }
}

/// That packets get lost, where it is worth telling.
pub(super) fn loss_words(progress: &Progress) -> String {
    let lost = progress.loss * 100.0;
    if progress.loss < LOSS_TOLD {
        return String::new();
    }
    format!("  {lost:.0} % of packets are lost")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fog::run::Wait;

    use super::*;

    #[test]
    fn a_wait_is_no_part_of_the_pace_and_none_is_shown_meanwhile() {
        let mut screen = Screen::new(false, true);
        let mut sending = Sending::new(&mut screen, "file".to_owned());
        let at = Duration::from_secs;
        let run = |sending: &mut Sending<'_>, from: u64| {
            for second in from..from + 10 {
                sending.pace.add(at(second), (second % 100) * 1_000);
            }
            sending.pace.left(at(from + 9), 109_000)
        };
        assert_eq!(run(&mut sending, 0), Some(at(100)));
        sending.show(&SendEvent::Waiting(Some(Wait::NoRoom)));
        assert_eq!(sending.pace.left(at(20), 109_000), None);
        sending.show(&SendEvent::Waiting(None));
        // A hundred seconds later the same bytes take as long as before.
        assert_eq!(run(&mut sending, 100), Some(at(100)));
    }

    #[test]
    fn the_share_of_packets_that_get_lost_is_said_where_it_is_worth_telling() {
        let words = |loss| {
            loss_words(&Progress {
                phase: Phase::Sending,
                chunks: 1,
                total: 2,
                size: 1_680,
                loss,
            })
        };
        assert_eq!([words(0.0), words(0.09)], ["", ""]);
        assert_eq!(words(0.1), "  10 % of packets are lost");
        assert_eq!(words(0.882), "  88 % of packets are lost");
    }
}

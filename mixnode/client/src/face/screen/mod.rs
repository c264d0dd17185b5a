//! What the user sees: a line that moves on a terminal, plain lines elsewhere, one JSON object a line for programs.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use fog::Pace;
use fog::run::{Notice, Wait};
use serde_json::{Value, json};

mod receiving;
mod sending;
mod status;

pub use receiving::Receiving;
pub use sending::Sending;
pub use status::show as show_status;

/// The moving line is drawn so often, and a plain one written so often.
const DRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(10);
const BAR_CELLS: usize = 24;

/// Where and how words go.
pub struct Screen {
    is_json: bool,
    is_quiet: bool,
    /// Standard error is a terminal.
    is_terminal: bool,
    /// Anything beyond ASCII can be shown.
    is_utf8: bool,
    /// A moving line is there.
    is_drawn: bool,
    began: Instant,
    next: Option<Instant>,
    /// What was said last to be waited for.
    waited: Option<Wait>,
    /// Why a result could not be printed, the first time.
    unprinted: RefCell<Option<io::Error>>,
}

impl Screen {
    pub fn new(is_json: bool, is_quiet: bool) -> Self {
        Self {
            is_json,
            is_quiet,
            is_terminal: io::stderr().is_terminal(),
            is_utf8: is_utf8(|name| std::env::var(name).ok()),
            is_drawn: false,
            began: Instant::now(),
            next: None,
            waited: None,
            unprinted: RefCell::default(),
        }
    }

    /// Whether words are for programs.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// A line that stays.
    pub fn note(&mut self, text: &str) {
        if self.is_quiet || self.is_json {
            return;
        }
        let erase = self.erase();
        let text = self.shown(text);
        let _ = io::stderr().write_all(format!("{erase}{text}\n").as_bytes());
    }

    /// One event for programs.
    pub fn event(&self, event: &Value) {
        if self.is_json {
            self.say(&event.to_string());
        }
    }

    /// What is to be said at the end, for people; a result on standard output.
    pub fn result(&mut self, text: &str) {
        if self.is_json || self.is_quiet {
            return;
        }
        self.end();
        self.say(&self.shown(text));
    }

    /// A line on standard output. That it is lost is told once: the work goes on.
    fn say(&self, line: &str) {
        if let Err(error) = program::print(line) {
            let mut unprinted = self.unprinted.borrow_mut();
            if unprinted.is_none() {
                program::complain!("fog: can't print: {error}");
            }
            unprinted.get_or_insert(error);
        }
    }

    /// Why results could not be printed, if some could not.
    pub fn unprinted(&self) -> Option<io::Error> {
        self.unprinted.take()
    }

    /// The moving line goes.
    pub fn end(&mut self) {
        let erase = self.erase();
        let _ = io::stderr().write_all(erase.as_bytes());
    }

    /// Draws a moving line, or writes a plain one now and then.
    pub(super) fn draw(&mut self, text: &str) {
        let now = Instant::now();
        if self.is_quiet || self.is_json || self.next.is_some_and(|next| now < next) {
            return;
        }
        let text = self.shown(text);
        let line = if self.is_terminal {
            self.next = Some(now + DRAW);
            self.is_drawn = true;
            // Not the last column: some terminals begin a new line there.
            let cut: String = text.chars().take(columns().saturating_sub(1)).collect();
            format!("\r\x1b[K{cut}")
        } else {
            // The first one only when something lasts.
            let is_first = self.next.is_none();
            self.next = Some(now + LINE);
            if is_first {
                return;
            }
            format!("{text}\n")
        };
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn erase(&mut self) -> &'static str {
        if std::mem::take(&mut self.is_drawn) {
            "\r\x1b[K"
        } else {
            ""
        }
    }

    fn shown(&self, text: &str) -> String {
        if self.is_utf8 {
            return text.to_owned();
        }
        let mut ascii = String::new();
        for character in text.chars() {
            match character {
                '█' => ascii.push('#'),
                '░' => ascii.push('.'),
                c if c.is_ascii() => ascii.push(c),
                c => ascii.extend(c.escape_unicode()),
            }
        }
        ascii
    }

    /// Nothing is left to do, and cover goes on.
    pub fn lingers(&mut self, time: Duration) {
        self.end();
        self.note(&format!(
            "fog: cover goes on for {}, so that nobody sees when the work was done (Ctrl-C or fog down ends it)",
            duration(time)
        ));
        self.event(&json!({ "event": "lingering", "seconds": time.as_secs_f64() }));
    }

    fn notice(&mut self, notice: &Notice) {
        // Another gateway is used: the end of the wait is no word of the one that was waited for.
        self.waited = None;
        self.note(&format!("fog: {notice}"));
        self.event(&json!({ "event": notice.name(), "text": notice.to_string() }));
    }

    fn waiting(&mut self, wait: Option<&Wait>) {
        match wait {
            Some(wait) => {
                self.waited = Some(wait.clone());
                self.note(&format!("fog: waiting: {wait}"));
                self.event(
                    &json!({ "event": "waiting", "for": wait.name(), "text": wait.to_string() }),
                );
            }
            None => {
                let after = self.waited.take();
                let why = after.as_ref().map(Wait::over);
                let words = why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why}"));
                self.note(&format!("fog: it goes on{words}"));
                let after = after.as_ref().map(Wait::name);
                self.event(&json!({ "event": "going-on", "after": after, "text": why }));
            }
        }
    }
}

/// Whether the locale's characters are UTF-8, by the variables' rank (locale(7)).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    set.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(io::stderr())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns > 0)
        .unwrap_or(80)
}

/// `1 byte`, `812 bytes`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 10_000 {
        return counted(bytes, "byte");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!(
        "{value:.1} {}",
        UNITS.get(unit).copied().unwrap_or_default()
    )
}

/// `1 packet`, `2 packets`.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 => format!("{seconds} s"),
        seconds if seconds < 3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A transfer in one line, what counts most first: the line may be cut.
fn progress_line(name: &str, bytes: u64, total: u64, pace: &Pace, now: Duration) -> String {
    let share = if total == 0 {
        1.0
    } else {
        bytes as f64 / total as f64
    };
    let mut text = format!("{:>3.0} %", share * 100.0);
    if let Some(left) = pace.left(now, total) {
        text.push_str(&format!("  {} left", duration(left)));
    }
    let filled = (share.clamp(0.0, 1.0) * BAR_CELLS as f64) as usize;
    text.push_str(&format!(
        "  {} of {}  {}{}",
        size(bytes),
        size(total),
        "█".repeat(filled),
        "░".repeat(BAR_CELLS - filled)
    ));
    if let Some(rate) = pace.bytes_per_second(now) {
        text.push_str(&format!("  {}/s", size(rate as u64)));
    }
    format!("{text}  {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_words_that_people_use() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (9_999, "9999 bytes"),
            (300_000, "293.0 KiB"),
            (314_572_800, "300.0 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(59, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_locale_decides_what_can_be_shown() {
        let locale = |set: &'static [(&'static str, &'static str)]| {
            is_utf8(|name| {
                let found = set.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(locale(&[("LANG", "de_DE.UTF-8")]));
        assert!(locale(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(!locale(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!locale(&[]));
        let mut screen = Screen::new(false, true);
        screen.is_utf8 = false;
        assert_eq!(screen.shown("█░ä"), "#.\\u{e4}");
    }

    #[test]
    fn no_rate_and_no_time_left_are_shown_before_there_are_data() {
        let mut pace = Pace::default();
        let at = Duration::from_secs;
        pace.add(at(0), 1);
        let line = progress_line("file", 1, 1_000_000, &pace, at(1));
        assert!(!line.contains("left") && !line.contains("/s"), "{line}");
        for second in 1..=10 {
            pace.add(at(second), second * 10_000);
        }
        let line = progress_line("file", 100_000, 1_000_000, &pace, at(10));
        assert!(line.starts_with(" 10 %  1 min 30 s left"), "{line}");
        assert!(
            line.contains("9.8 KiB/s") || line.contains("9999 bytes/s"),
            "{line}"
        );
    }
}

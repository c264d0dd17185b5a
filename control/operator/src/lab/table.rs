//! What a visitor sees: the live table on a terminal, plain lines elsewhere.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::Duration;

use directory::Role;

use super::printer::Printer;
use super::status::Status;

/// One node's line.
#[derive(Clone, Debug)]
pub struct Row {
    /// From 1.
    pub number: u16,
    /// Gateway or mix.
    pub role: Role,
    /// The layer in the current epoch; 0 for gateways, none before the first consensus.
    pub layer: Option<u8>,
    /// The process is there.
    pub alive: bool,
    /// What the node says.
    pub status: Status,
    /// Datagrams received a second since the last draw.
    pub received_pps: f64,
    /// Datagrams sent a second since the last draw.
    pub sent_pps: f64,
    /// Datagrams rejected a second since the last draw.
    pub dropped_pps: f64,
}

/// Where the lab writes.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    colours: bool,
    printer: Printer,
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        Self::of(
            io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
        )
    }

    /// `no_color` is that variable's value: any but an empty one means that no colours are wanted (no-color.org).
    fn of(terminal: bool, no_color: Option<&OsStr>) -> Self {
        Self {
            terminal,
            colours: no_color.is_none_or(OsStr::is_empty),
            printer: Printer::new(io::stdout()),
        }
    }

    /// Whether drawings can be drawn over.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// `text` in bold where there is a terminal.
    pub fn bold(&self, text: &str) -> String {
        self.style(BOLD, text)
    }

    /// `text` in green where there is a terminal.
    pub fn good(&self, text: &str) -> String {
        self.style(GREEN, text)
    }

    /// `text` in red where there is a terminal.
    pub fn bad(&self, text: &str) -> String {
        self.style(RED, text)
    }

    /// `text` dimmed where there is a terminal.
    pub fn dim(&self, text: &str) -> String {
        self.style(DIM, text)
    }

    fn style(&self, style: &str, text: &str) -> String {
        if self.terminal && self.colours {
            format!("{style}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    }

    /// Prints lines that stay; the drawing, if any, is gone.
    pub fn say(&self, text: &str) {
        self.printer.say(format!("{text}\n"));
    }

    /// Draws `text` over the last drawing; on no terminal, does nothing.
    pub fn draw(&self, text: &str) {
        if !self.terminal {
            return;
        }
        let mut out = String::new();
        let (rows, columns) = size();
        for line in text.lines().take(rows.saturating_sub(1)) {
            out.push_str(&clip(line, columns));
            out.push('\n');
        }
        self.printer.draw(out);
    }
}

fn size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(io::stdout()).map_or((24, 80), |size| {
        (
            usize::from(size.ws_row).max(4),
            usize::from(size.ws_col).max(20),
        )
    })
}

/// Cuts a line at the screen's width, so that it stays one line; escape sequences take no room.
fn clip(line: &str, columns: usize) -> String {
    let (mut shown, mut escape, mut out) = (0, false, String::new());
    for character in line.chars() {
        if escape {
            escape = character != 'm';
        } else if character == '\x1b' {
            escape = true;
        } else {
            shown += 1;
            if shown > columns {
                continue;
            }
        }
        out.push(character);
    }
    out
}

/// The table of all nodes.
pub fn nodes(screen: &Screen, rows: &[Row]) -> String {
    let mut out = String::new();
    let head = "node  role     layer  port    in/s     out/s    held    drops/s  loop loss";
    let _ = writeln!(out, "  {}", screen.bold(head));
    for row in rows {
        let layer = match row.layer {
            Some(0) => "edge".to_owned(),
            Some(directory::WAITING) => "waits".to_owned(),
            Some(layer) => layer.to_string(),
            None => "-".to_owned(),
        };
        let loss = row
            .status
            .loop_loss
            .map_or("-".to_owned(), |loss| format!("{:.1} %", loss * 100.0));
        let line = format!(
            "{:>4}  {:<8} {:>5}  {:<6} {:>6.0}  {:>8.0}  {:>6}  {:>9.1}  {:>9}",
            row.number,
            row.role.to_string(),
            layer,
            row.status.port,
            row.received_pps,
            row.sent_pps,
            row.status.held,
            row.dropped_pps,
            loss,
        );
        if row.alive {
            let _ = writeln!(out, "  {line}");
        } else {
            let _ = writeln!(
                out,
                "  {}",
                screen.bad(&format!("{:>4}  {:<8} gone", row.number, row.role))
            );
        }
    }
    out
}

/// The whole network in one line.
pub fn one_line(rows: &[Row], elapsed: Duration, epoch: u32) -> String {
    let alive = rows.iter().filter(|row| row.alive).count();
    let held: u64 = rows.iter().map(|row| row.status.held).sum();
    let (received, sent, dropped) = rows.iter().fold((0.0, 0.0, 0.0), |sum, row| {
        (
            sum.0 + row.received_pps,
            sum.1 + row.sent_pps,
            sum.2 + row.dropped_pps,
        )
    });
    let gone: Vec<String> = rows
        .iter()
        .filter(|row| !row.alive)
        .map(|row| row.number.to_string())
        .collect();
    let gone = if gone.is_empty() {
        String::new()
    } else {
        format!(" (gone: {})", gone.join(", "))
    };
    format!(
        "{:>5} s  epoch {epoch}  {alive} of {} nodes{gone}  in {received:.0}/s  out {sent:.0}/s  held {held}  drops {dropped:.1}/s",
        elapsed.as_secs(),
        rows.len(),
    )
}

/// A bar of `width` cells.
pub fn bar(fraction: f64, width: usize) -> String {
    let filled = (fraction.clamp(0.0, 1.0) * width as f64) as usize;
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_width_and_keep_their_escapes() {
        assert_eq!(clip("abcdef", 4), "abcd");
        assert_eq!(clip("\x1b[1mabcdef\x1b[0m", 4), "\x1b[1mabcd\x1b[0m");
        assert_eq!(clip("\x1b[1mab\x1b[0m", 4), "\x1b[1mab\x1b[0m");
    }

    #[test]
    fn no_color_and_a_pipe_take_the_colours_away() {
        let said = |terminal, no_color: Option<&str>| {
            Screen::of(terminal, no_color.map(OsStr::new)).bad("down")
        };
        assert_eq!(said(true, None), "\x1b[31mdown\x1b[0m");
        assert_eq!(said(true, Some("")), said(true, None));
        assert_eq!(said(true, Some("1")), "down");
        assert_eq!(said(false, None), "down");
    }

    #[test]
    fn a_bar_is_as_wide_as_asked() {
        for fraction in [-1.0, 0.0, 0.5, 1.0, 2.0, f64::NAN] {
            assert_eq!(bar(fraction, 10).chars().count(), 10);
        }
    }
}

//! The command line of `fog`: its man page and completions are made from this too.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};

/// Files through the mix network, without anyone on the way learning who talks to whom.
#[derive(Parser)]
#[command(name = "fog", version = directory::version(), max_term_width = 100)]
pub struct Arguments {
    /// Where keys and state are kept [default: $XDG_DATA_HOME/fog or ~/.local/share/fog]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Says less: errors alone, and where received files are
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Prints one JSON object a line on standard output for everything that happens
    #[arg(long, global = true)]
    pub json: bool,
    /// Logs more: -v as --log debug, -vv as --log trace
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What is logged, and how
    #[command(flatten)]
    pub log: program::log::Arguments,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What `fog` does.
#[derive(Subcommand)]
pub enum Command {
    /// Joins a network: makes keys (existing ones are kept) and picks a gateway
    Init {
        /// The network's file: authorities and a recent consensus
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// The gateway's identity, 64 hexadecimal digits [default: drawn by capacity]
        #[arg(long, value_name = "HEX", value_parser = parse_identity)]
        gateway: Option<Identity>,
    },
    /// Prints the address to give to others
    Address,
    /// Receives files until it is stopped, and sends those that fog send hands over
    Up {
        /// Where files go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Stops a running fog up or fog recv
    Down,
    /// Says how a running fog up or fog recv stands
    Status,
    /// Receives files until interrupted; meanwhile sends those that fog send hands over
    Recv {
        /// Where files go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Stop when so many files are here; cover goes on for five seconds and about a minute more
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Stop after this time, with exit code 75 unless the files of --count are here (30s, 5m, 2h)
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        timeout: Option<Duration>,
        /// How long cover goes on after the end, on average: for tests and laboratories
        #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "60s", hide = true)]
        linger: Duration,
    },
    /// Sends files; interrupted or killed, the same command goes on where it stopped. When all have arrived it says so,
    /// and cover goes on for about a minute, so that nobody sees when that was: unless fog up runs, which sends them then
    Send {
        /// The recipient's address
        address: String,
        /// Files, folders with all that is in them, or - for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The name that the recipient gets to see in place of the file's own
        #[arg(long, value_name = "NAME")]
        name: Option<OsString>,
        /// Give up after this time, with exit code 75 (30s, 5m, 2h)
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        timeout: Option<Duration>,
        /// How long cover goes on after the end, on average: for tests and laboratories
        #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "60s", hide = true)]
        linger: Duration,
    },
}

/// The name of a gateway.
#[derive(Clone)]
pub struct Identity(pub [u8; 32]);

fn parse_identity(text: &str) -> Result<Identity, String> {
    let wrong = || "64 hexadecimal digits are expected".to_owned();
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut identity = [0; 32];
    for (byte, digits) in identity.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = core::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(Identity(identity))
}

/// Seconds, or a number with a unit.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "a number of seconds, or one with a unit: 500ms, 30s, 5m, 2h".to_owned();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * scale).map_err(|_| wrong())?;
    match time.is_zero() {
        true => Err("no time at all: nothing can be done in it".to_owned()),
        false => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        for (text, seconds) in [("30", 30.0), ("1.5s", 1.5), ("5m", 300.0), ("2h", 7_200.0)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs_f64(seconds)));
        }
        for text in ["", "s", "1d", "-1", "1.2.3", "1e9"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}

//! What a lab is made of: the flags, their bounds, and what follows from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use directory::{Parameters, Role};
use port::PortKind;

use crate::duration;

/// Where a lab's nodes listen unless told otherwise: UDP port of 127.1.N.1.
pub const UDP_PORT: u16 = 9_000;
/// Where a lab's dashboard is unless told otherwise.
const HTTP: &str = "127.0.0.1:9102";
/// Gateways of a lab: the sender's and the receiver's.
pub const GATEWAYS: u16 = 2;

/// The largest lab has an address for each node: 80 mixes in 3 layers and 2 gateways, numbers of one byte.
const _: () = assert!(3 * 80 + GATEWAYS <= 254);

/// The flags of `mixctl lab`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Sends this file from a fresh alice to a fresh bob, then ends; exit 0 only if it arrived whole
    #[arg(long, value_name = "FILE")]
    pub send: Option<PathBuf>,
    /// Layers of mixes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub layers: u8,
    /// Mixes in each layer
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=80))]
    pub mixes: u16,
    /// Mean delay at each hop
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = mean_delay)]
    pub mean_delay: Duration,
    /// Packets a second of each client, busy or idle
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Length of an epoch: after each, keys, layers and the consensus are new [default: 20m, with several authorities 16s]
    #[arg(long, value_name = "TIME", value_parser = epoch)]
    pub epoch: Option<Duration>,
    /// How many authorities have to agree on each epoch's document; with more than one, the first takes up to two epochs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub authorities: u8,
    /// Drops each datagram with this probability
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub loss: f64,
    /// How nodes receive and send: auto, uring or plain
    #[arg(long, value_name = "PORT", default_value = "auto", value_parser = port)]
    pub port: PortKind,
    /// UDP port of every node; node N listens on 127.1.N.1
    #[arg(long, value_name = "NUMBER", default_value_t = UDP_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub udp_port: u16,
    /// As root: each node in a network namespace of its own, with the XDP program before it and AF_XDP sockets
    #[arg(long, conflicts_with = "port")]
    pub xdp: bool,
    /// With --xdp: IPv6 instead of IPv4 between all of them
    #[arg(long, requires = "xdp")]
    pub ipv6: bool,
    /// Starts nodes again that are gone
    #[arg(long)]
    pub restart: bool,
    /// Keeps the lab's files here instead of a temporary folder; an earlier lab's are replaced, other files are not
    /// touched
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Shows all nodes in a browser: prints where; the dashboard's address can be named
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = HTTP, value_parser = http)]
    pub http: Option<SocketAddr>,
    /// Prints the summary as one JSON line at the end
    #[arg(long)]
    pub json: bool,
    /// Gateways; `mixbench network` asks for more.
    #[arg(skip = GATEWAYS)]
    pub gateways: u16,
    /// Clients that the nodes have room for: two of them, and some from other terminals.
    #[arg(skip = 2u16)]
    pub clients: u16,
}

impl Options {
    /// All nodes: gateways first, then mixes; numbered from 1.
    pub fn nodes(&self) -> impl Iterator<Item = (u16, Role)> + use<> {
        let mixes = u16::from(self.layers) * self.mixes;
        let gateways = self.gateways;
        (1..=gateways + mixes).map(move |number| {
            let role = if number <= gateways {
                Role::Gateway
            } else {
                Role::Mix
            };
            (number, role)
        })
    }

    /// Clients of each gateway.
    fn clients_each(&self) -> u16 {
        self.clients.div_ceil(self.gateways.max(1))
    }

    /// Places for clients at a gateway, if it is to have more than nodes have anyway.
    pub fn clients_max(&self) -> Option<u16> {
        // Some who move in the meantime.
        let places = self.clients_each() / 4 * 5 + 16;
        (places > 256).then_some(places)
    }

    /// Packets a second that a node is made for.
    pub fn max_pps(&self) -> u32 {
        // One client's rate passes each node at most a few times over; room for cover and other clients. Where there are
        // many, all of a gateway's pass it when they come and when they go.
        let of_one = self.rate.saturating_mul(8);
        let of_all = self.rate.saturating_mul(4 * u32::from(self.clients_each()));
        of_one.max(of_all).max(2_000)
    }

    /// Where node `number` listens. Each node has a /24 or /48 of its own, as path selection asks.
    pub fn address(&self, number: u16) -> SocketAddr {
        let low = u8::try_from(number).unwrap_or(u8::MAX);
        let ip = match (self.xdp, self.ipv6) {
            (false, _) => IpAddr::V4(Ipv4Addr::new(127, 1, low, 1)),
            (true, false) => IpAddr::V4(Ipv4Addr::new(10, 77, low, 1)),
            (true, true) => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, number, 0, 0, 0, 0, 1)),
        };
        SocketAddr::new(ip, self.udp_port)
    }

    /// Where authority `number`, counted from 1, answers nodes and the others: by TCP, where the nodes have UDP.
    pub fn authority_address(&self, number: u8) -> SocketAddr {
        SocketAddr::from(([127, 2, number, 1], self.udp_port))
    }

    /// Length of an epoch. Where several authorities agree on the first document, nobody wants to wait for a long one.
    pub fn epoch_length(&self) -> Duration {
        let usual = match self.authorities {
            1 => Duration::from_secs(20 * 60),
            _ => Duration::from_secs(16),
        };
        self.epoch.unwrap_or(usual)
    }

    /// With `--xdp`: where the clients are.
    pub fn client_address(&self) -> IpAddr {
        self.address(255).ip()
    }

    /// With `--xdp`: length of the prefix that all addresses share; they are on one Ethernet.
    pub fn prefix(&self) -> u8 {
        if self.ipv6 { 32 } else { 16 }
    }

    /// The network's parameters with epoch 0 starting at `genesis_unix_ms`.
    pub fn parameters(&self, genesis_unix_ms: u64) -> Parameters {
        Parameters {
            genesis_unix_ms,
            epoch_ms: u64::try_from(self.epoch_length().as_millis()).unwrap_or(u64::MAX),
            mean_delay_us: u32::try_from(self.mean_delay.as_micros()).unwrap_or(u32::MAX),
            client_rate_pps: self.rate,
            layers: self.layers,
        }
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=0.5).contains(&value) => Ok(value),
        _ => Err("a probability from 0 to 0.5".into()),
    }
}

/// What is said there is not encrypted.
fn http(text: &str) -> Result<SocketAddr, String> {
    let refused = || format!("an address of this host, such as {HTTP}");
    let address: SocketAddr = text.parse().map_err(|_| refused())?;
    address
        .ip()
        .is_loopback()
        .then_some(address)
        .ok_or_else(refused)
}

fn mean_delay(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_micros(100), Duration::from_secs(60))
}

fn epoch(text: &str) -> Result<Duration, String> {
    within(
        text,
        Duration::from_secs(5),
        Duration::from_secs(7 * 24 * 3_600),
    )
}

fn within(text: &str, shortest: Duration, longest: Duration) -> Result<Duration, String> {
    let value = duration::parse(text)?;
    if (shortest..=longest).contains(&value) {
        Ok(value)
    } else {
        let (shortest, longest) = (duration::show(shortest), duration::show(longest));
        Err(format!("must be from {shortest} to {longest}"))
    }
}

fn port(text: &str) -> Result<PortKind, String> {
    text.parse()
        .map_err(|error: port::UnknownPort| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_starts_when_it_was_told() {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            options: Options,
        }
        let of = |arguments: &[&str]| -> Flags {
            clap::Parser::parse_from([&["lab"], arguments].concat())
        };
        let length = |arguments: &[&str]| of(arguments).options.epoch_length().as_secs();
        assert_eq!(length(&[]), 20 * 60);
        assert_eq!(length(&["--authorities", "3"]), 16);
        assert_eq!(length(&["--authorities", "3", "--epoch", "8s"]), 8);
        let flags = of(&["--epoch", "60s"]);
        let parameters = flags.options.parameters(1_000_000_000);
        assert_eq!(parameters.epoch_starts_ms(0), 1_000_000_000);
        assert!(parameters.check().is_ok());
        assert_eq!(flags.options.nodes().count(), 8);
    }
}

//! The configuration of a node: what `mixnode.toml` says, with the built-in defaults for what it does not.

mod check;
mod load;
#[cfg(test)]
mod tests;

pub use check::{check, doubts};
pub use load::{ConfigError, load, parse};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use directory::Role;
use serde::Deserialize;

use crate::process::sandbox;
use handover::protocol::SOCKET_PATH;
use port::PortKind;

/// Everything a node can be told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who the node is and where it listens.
    pub node: NodeConfig,
    /// The network it belongs to.
    pub network: NetworkConfig,
    /// The XDP front end; only with `port = "xsk"`.
    pub xdp: Option<XdpConfig>,
    /// Where epoch keys and replay tables lie.
    pub keys: KeysConfig,
    /// The packet path.
    pub worker: WorkerConfig,
    /// A gateway's clients.
    pub gateway: GatewayConfig,
    /// Cover traffic.
    pub cover: CoverConfig,
    /// When the operator is warned of too few packets to hide among.
    pub anonymity: AnonymityConfig,
    /// The management address.
    pub metrics: MetricsConfig,
    /// What the node gives up after its start.
    pub sandbox: SandboxConfig,
    /// Faults on purpose.
    pub fault: FaultConfig,
    /// Print a status line (JSON) a second on standard output. Not a key of the file.
    #[serde(skip)]
    pub status_lines: bool,
    /// Leave replay tables to grow as packets come, for many nodes on one machine. Not a key of the file.
    #[serde(skip)]
    pub tables_as_needed: bool,
}

impl Config {
    /// Whether mixctld is to keep epoch keys and replay tables.
    pub fn wants_vault(&self) -> bool {
        self.keys.vault.unwrap_or(self.xdp.is_some())
    }

    /// The socket of mixctld.
    pub fn loader(&self) -> &Path {
        let named = self.xdp.as_ref().map(|xdp| &xdp.loader);
        named
            .or(self.keys.loader.as_ref())
            .map_or(Path::new(SOCKET_PATH), PathBuf::as_path)
    }
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Mix or gateway.
    #[serde(deserialize_with = "load::role")]
    pub role: Role,
    /// Who runs it: paths avoid two mixes of one operator.
    pub operator: String,
    /// The UDP address, reachable from outside: exactly one.
    pub listen: Vec<SocketAddr>,
    /// How datagrams come and go.
    #[serde(deserialize_with = "load::port")]
    pub port: PortKind,
    /// Where identity, link and VRF keys lie.
    pub state_dir: PathBuf,
    /// Share of the traffic, packets a second: paths are weighted by it.
    pub capacity_pps: u32,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            role: Role::Mix,
            operator: "unnamed".to_owned(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 9000))],
            port: PortKind::Auto,
            state_dir: PathBuf::from("/var/lib/fogmix/mixnode"),
            capacity_pps: 10_000,
        }
    }
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The folder in which descriptors and consensus documents are exchanged.
    pub directory: PathBuf,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            directory: PathBuf::from("/var/lib/fogmix/directory"),
        }
    }
}

/// `[xdp]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XdpConfig {
    /// The loader's socket.
    pub loader: PathBuf,
    /// Whether the sockets prefer to be polled by a busy worker over the NIC's interrupts.
    pub prefer_busy_poll: bool,
}

impl Default for XdpConfig {
    fn default() -> XdpConfig {
        XdpConfig {
            loader: PathBuf::from(SOCKET_PATH),
            prefer_busy_poll: false,
        }
    }
}

/// `[keys]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// Whether mixctld keeps them beyond this process; unless said otherwise it does with `port = "xsk"` alone.
    pub vault: Option<bool>,
    /// Its socket, where there is no `[xdp]` to name it.
    pub loader: Option<PathBuf>,
}

/// `[worker]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Number of workers.
    pub count: u8,
    /// Pin each to a core of its own.
    pub pin: bool,
    /// Packets a second the node is made for: sizes the pool and the replay tables.
    pub max_pps: u32,
    /// Keep polling for so long before sleeping.
    pub busy_poll_us: u32,
    /// Frames of each worker's pool; 0 computes them.
    pub pool_frames: u32,
}

impl Default for WorkerConfig {
    fn default() -> WorkerConfig {
        WorkerConfig {
            count: 1,
            pin: false,
            max_pps: 10_000,
            busy_poll_us: 0,
            pool_frames: 0,
        }
    }
}

/// `[gateway]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Clients attached to each worker.
    pub clients_max: u16,
    /// Deliveries queued for one client.
    pub queue_frames: u32,
    /// Highest rate of a client's stream, packets a second.
    pub rate_max_pps: u32,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            clients_max: 256,
            queue_frames: 64,
            rate_max_pps: 2_000,
        }
    }
}

/// `[cover]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoverConfig {
    /// Mean time between loop packets; 0 for none.
    pub loop_interval_ms: u32,
    /// Mean time between drop cover packets; 0 for none.
    pub drop_interval_ms: u32,
}

impl Default for CoverConfig {
    fn default() -> CoverConfig {
        CoverConfig {
            loop_interval_ms: 200,
            drop_interval_ms: 200,
        }
    }
}

/// `[anonymity]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnonymityConfig {
    /// Below so many bits for five minutes the node warns; 0 for never.
    pub floor_bits: f64,
}

impl Default for AnonymityConfig {
    fn default() -> AnonymityConfig {
        AnonymityConfig { floor_bits: 4.0 }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none if empty.
    #[serde(deserialize_with = "program::config::optional_address")]
    pub listen: Option<SocketAddr>,
}

/// `[sandbox]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// Whether rights are given up, and what a missing part means.
    #[serde(deserialize_with = "load::sandbox")]
    pub mode: sandbox::Mode,
}

/// `[fault]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultConfig {
    /// Probability of dropping a datagram that arrives.
    pub loss: f64,
}

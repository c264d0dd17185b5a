//! The configuration of mixctld: beside a node what `mixctld.toml` says, as an authority `authority.toml`. One format:
//! which sections are there says what the process does.

mod check;
#[cfg(test)]
mod tests;

pub(crate) use check::group;
pub use check::load;

use std::net::SocketAddr;
use std::path::PathBuf;

use handover::protocol::SOCKET_PATH;
use loader::PINS;
use serde::Deserialize;

use crate::authority::key::KEY_PATH;
use crate::authority::nodes::NODES_PATH;

/// The configuration beside a node, where there is one.
pub const CONFIG_PATH: &str = "/etc/fogmix/mixctld.toml";
/// What a network is joined with.
pub const NETWORK_PATH: &str = "/etc/fogmix/network";

/// Where the daemon beside a node answers `mixctl`.
pub const HTTP_SOCKET_PATH: &str = "/run/fogmix/http.sock";

/// Where the token of who asks over TCP lies.
pub const TOKEN_PATH: &str = "/var/lib/fogmix/control/http.token";

/// Everything mixctld can be told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The XDP front end, beside a node.
    pub xdp: Option<XdpConfig>,
    /// Keeping the node's keys; without [xdp] that alone.
    pub keys: Option<KeysConfig>,
    /// Following a network, for the node here.
    pub directory: Option<DirectoryConfig>,
    /// Answering `mixctl`, for the node here.
    pub http: Option<HttpConfig>,
    /// An authority: a process of its own.
    pub authority: Option<AuthorityConfig>,
}

impl Config {
    /// Who may be a node besides root and the daemon's own user; nobody if empty.
    pub fn node_user(&self) -> &str {
        let xdp = self.xdp.as_ref().map(|xdp| xdp.node_user.as_str());
        let keys = self.keys.as_ref().map(|keys| keys.node_user.as_str());
        xdp.filter(|user| !user.is_empty())
            .or(keys)
            .unwrap_or_default()
    }
}

/// `[xdp]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XdpConfig {
    /// Where to listen.
    pub socket: PathBuf,
    /// Folder on a BPF file system for what outlives the daemon.
    pub pins: PathBuf,
    /// Who may be a node besides root and the daemon's own user; nobody if empty.
    pub node_user: String,
}

impl Default for XdpConfig {
    fn default() -> XdpConfig {
        XdpConfig {
            socket: PathBuf::from(SOCKET_PATH),
            pins: PathBuf::from(PINS),
            node_user: String::new(),
        }
    }
}

/// `[keys]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// What all replay tables together may take, bytes; 0: half of this machine's memory.
    pub tables_bytes_max: u64,
    /// As in [xdp]: there is one socket, and one node at it. Whichever section names a user is right.
    pub node_user: String,
}

/// `[directory]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectoryConfig {
    /// What the network is joined with.
    pub network: PathBuf,
    /// The folder that the node reads, as its [network] directory names it.
    pub folder: PathBuf,
}

impl Default for DirectoryConfig {
    fn default() -> DirectoryConfig {
        DirectoryConfig {
            network: PathBuf::from(NETWORK_PATH),
            folder: PathBuf::from("/var/lib/fogmix/directory"),
        }
    }
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen.
    pub socket: PathBuf,
    /// Who may ask besides root and this process's own user; its own group if empty.
    pub group: String,
    /// Where the node's metrics page is, if anywhere.
    #[serde(deserialize_with = "program::config::optional_address")]
    pub node_metrics: Option<SocketAddr>,
    /// The address of the dashboard, and of who asks over TCP, if there is one.
    #[serde(deserialize_with = "program::config::optional_address")]
    pub listen: Option<SocketAddr>,
    /// Where the token of who asks there lies.
    pub token: PathBuf,
    /// Names that the address is known by, beside its own and localhost.
    pub hosts: Vec<String>,
    /// Whether it may be one that other hosts reach.
    pub allow_remote: bool,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            socket: PathBuf::from(HTTP_SOCKET_PATH),
            group: String::new(),
            node_metrics: None,
            listen: None,
            token: PathBuf::from(TOKEN_PATH),
            hosts: Vec::new(),
            allow_remote: false,
        }
    }
}

/// `[authority]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorityConfig {
    /// This authority's key.
    pub key: PathBuf,
    /// Where nodes and the other authorities reach it.
    pub listen: SocketAddr,
    /// The list of admitted nodes, or `open`.
    pub admission: String,
    /// What the network is joined with.
    pub network: PathBuf,
    /// Documents, evidence, and what was signed last.
    pub state_dir: PathBuf,
}

impl Default for AuthorityConfig {
    fn default() -> AuthorityConfig {
        AuthorityConfig {
            key: PathBuf::from(KEY_PATH),
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            admission: NODES_PATH.to_owned(),
            network: PathBuf::from(NETWORK_PATH),
            state_dir: PathBuf::from("/var/lib/fogmix-authority"),
        }
    }
}

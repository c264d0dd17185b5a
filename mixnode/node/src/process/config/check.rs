//! Limits of the values, and what the host must provide for them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::Config;
use super::load::ConfigError;
use crate::keys::files;
use directory::store::Store;
use port::PortKind;

/// Names a key in errors.
type Key = (&'static str, &'static str);

/// Checks every value against its limits.
///
/// # Errors
/// The first value out of its limits.
pub fn check(config: &Config, text: &str, file: &Path) -> Result<(), ConfigError> {
    let error = |key: Key, problem: String, remedy: &str| {
        ConfigError::of((file, text), key, &problem, remedy)
    };
    let range = |key: Key, value: u64, low: u64, high: u64| {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(error(
            key,
            format!("{value} is out of range"),
            &format!("use {low} to {high}"),
        ))
    };
    let (node, worker, gateway) = (&config.node, &config.worker, &config.gateway);
    range(
        ("node", "capacity_pps"),
        node.capacity_pps.into(),
        1,
        100_000_000,
    )?;
    range(("worker", "count"), worker.count.into(), 1, 128)?;
    range(
        ("worker", "max_pps"),
        worker.max_pps.into(),
        100,
        100_000_000,
    )?;
    range(
        ("worker", "busy_poll_us"),
        worker.busy_poll_us.into(),
        0,
        1_000_000,
    )?;
    if worker.pool_frames != 0 {
        range(
            ("worker", "pool_frames"),
            worker.pool_frames.into(),
            256,
            port::pool::FRAMES_MAX.into(),
        )?;
    }
    range(
        ("gateway", "clients_max"),
        gateway.clients_max.into(),
        1,
        16_384,
    )?;
    range(
        ("gateway", "queue_frames"),
        gateway.queue_frames.into(),
        1,
        65_536,
    )?;
    range(
        ("gateway", "rate_max_pps"),
        gateway.rate_max_pps.into(),
        1,
        100_000,
    )?;
    range(
        ("cover", "loop_interval_ms"),
        config.cover.loop_interval_ms.into(),
        0,
        3_600_000,
    )?;
    range(
        ("cover", "drop_interval_ms"),
        config.cover.drop_interval_ms.into(),
        0,
        3_600_000,
    )?;
    let floor_bits = config.anonymity.floor_bits;
    if !(0.0..=24.0).contains(&floor_bits) {
        return Err(error(
            ("anonymity", "floor_bits"),
            format!("{floor_bits} is out of range"),
            "use 0 to 24: a bit more is twice as many packets held",
        ));
    }
    let queued = crate::process::queued_frames(config);
    let pool = match worker.pool_frames {
        0 => port::pool::FRAMES_MAX,
        frames => frames,
    };
    if queued > u64::from(pool / 2) {
        let problem = format!(
            "{} clients with {} frames each make {queued}, over half of a pool of {pool}",
            gateway.clients_max, gateway.queue_frames
        );
        return Err(error(
            ("gateway", "queue_frames"),
            problem,
            "lower it or [gateway] clients_max, or raise [worker] pool_frames",
        ));
    }
    if !(0.0..1.0).contains(&config.fault.loss) {
        let problem = format!("{} is no probability", config.fault.loss);
        return Err(error(
            ("fault", "loss"),
            problem,
            "use 0.0 to below 1.0; 0.0 outside of laboratories",
        ));
    }
    if node.port == PortKind::Xsk {
        let queues = handover::XSKS_MAX as u64;
        range(("worker", "count"), worker.count.into(), 1, queues)?;
        if config.xdp.is_none() {
            return Err(error(
                ("node", "port"),
                "\"xsk\" without a loader".to_owned(),
                &format!(
                    "add a section [xdp] with loader = {:?}, or what mixctld has as --socket",
                    handover::protocol::SOCKET_PATH
                ),
            ));
        }
    } else if config.xdp.is_some() {
        let problem = "has no meaning without [node] port = \"xsk\"".to_owned();
        return Err(error(
            ("xdp", ""),
            problem,
            "set that port, or remove the section",
        ));
    }
    if config.keys.loader.is_some() && (config.xdp.is_some() || !config.wants_vault()) {
        return Err(error(
            ("keys", "loader"),
            "has no meaning beside [xdp] or without vault = true".to_owned(),
            "remove it: with [xdp] its loader keeps the keys",
        ));
    }
    for (section, named) in [
        ("xdp", config.xdp.as_ref().map(|xdp| &xdp.loader)),
        ("keys", config.keys.loader.as_ref()),
    ] {
        // `sun_path` has 108 bytes, the last of them zero.
        let Some(path) = named.filter(|path| !path.is_absolute() || path.as_os_str().len() > 107)
        else {
            continue;
        };
        return Err(error(
            (section, "loader"),
            format!("{} is no place for a socket", path.display()),
            "use an absolute path of at most 107 bytes, the one that mixctld has as --socket",
        ));
    }
    for (key, path) in [
        (("node", "state_dir"), &node.state_dir),
        (("network", "directory"), &config.network.directory),
    ] {
        program::config::absolute((file, text), key, path)?;
    }
    let operator = node.operator.len();
    if !(1..=directory::OPERATOR_BYTES_MAX).contains(&operator) {
        let problem = format!("{operator} bytes");
        return Err(error(
            ("node", "operator"),
            problem,
            "use a name of 1 to 64 bytes",
        ));
    }
    if !node
        .operator
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte))
    {
        return Err(error(
            ("node", "operator"),
            "it has other characters than printable ASCII".to_owned(),
            "use letters, digits, spaces and punctuation: two names that look the same must be the same",
        ));
    }
    match node.listen.as_slice() {
        [address] => unreachable_by_others(*address).map_or(Ok(()), |(why, remedy)| {
            Err(error(
                ("node", "listen"),
                format!("{address} {why}"),
                remedy,
            ))
        }),
        others => Err(error(
            ("node", "listen"),
            format!("{} addresses", others.len()),
            "give exactly one IP:PORT",
        )),
    }?;
    if let Some(address) = config.metrics.listen
        && !address.ip().is_loopback()
    {
        let problem = format!("{address} is not a loopback address");
        return Err(error(
            ("metrics", "listen"),
            problem,
            "use 127.0.0.1:PORT or [::1]:PORT",
        ));
    }
    if config
        .metrics
        .listen
        .is_some_and(|address| address.port() == 0)
    {
        return Err(error(
            ("metrics", "listen"),
            "port 0 is another one at every start".to_owned(),
            "name a port, such as 9101",
        ));
    }
    Ok(())
}

/// Why no other node could send to this address, and what to do.
fn unreachable_by_others(address: SocketAddr) -> Option<(&'static str, &'static str)> {
    const NAME_IT: &str = "name the address that other nodes send to";
    const ON_ONE_LINK: &str = "is a link-local address, which means something on one link alone";
    let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
    match address.ip() {
        _ if address.port() == 0 => Some((
            "has port 0, which is another one at every start",
            "name a port, such as 9000",
        )),
        ip if ip.is_unspecified() => Some(("can't be reached by others", NAME_IT)),
        ip if ip.is_multicast() => Some(("is a multicast address", NAME_IT)),
        ip if ip == broadcast => Some(("is a broadcast address", NAME_IT)),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some((
            "is an IPv4 address in IPv6 clothes",
            "write it as IPv4: A.B.C.D:PORT",
        )),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some((ON_ONE_LINK, NAME_IT)),
        IpAddr::V4(ip) if ip.is_link_local() => Some((ON_ONE_LINK, NAME_IT)),
        _ => None,
    }
}

/// What is right on one host and most likely a mistake anywhere else, each with its remedy. A start goes on with it: so do
/// laboratories and tests.
pub fn doubts(config: &Config) -> Vec<String> {
    let listen = config.node.listen.iter();
    listen
        .filter(|address| address.ip().is_loopback())
        .map(|address| {
            format!(
                "[node] listen: {address} is a loopback address, which no other host reaches: name the address that \
                 other nodes send to"
            )
        })
        .collect()
}

/// Checks what the host must provide: folders and keys.
///
/// # Errors
/// The first thing that is missing or unreadable.
pub fn check_host(config: &Config, text: &str, file: &Path) -> Result<(), ConfigError> {
    let error = |key: Key, problem: String, remedy: String| {
        ConfigError::of((file, text), key, &problem, &remedy)
    };
    let folder = &config.network.directory;
    std::fs::read_dir(folder).map_err(|reason| {
        let problem = format!("can't read {}: {reason}", folder.display());
        error(
            ("network", "directory"),
            problem,
            "name the folder that mixctld follows the network into: its [directory] folder"
                .to_owned(),
        )
    })?;
    let written = Store::descriptors_below(folder);
    if !is_writable(&written) {
        return Err(error(
            ("network", "directory"),
            format!("can't write in {}", written.display()),
            "give it to the node's user: descriptors are published there".to_owned(),
        ));
    }
    let state = &config.node.state_dir;
    files::check(state)
        .map_err(|found| error(("node", "state_dir"), found.to_string(), found.remedy()))?;
    if !files::are_all_there(state) && !is_writable(state) {
        return Err(error(
            ("node", "state_dir"),
            format!("can't make keys in {}", state.display()),
            "give the folder to the node's user".to_owned(),
        ));
    }
    Ok(())
}

/// Whether this process may make files in `folder`, or make the folder and then files in it.
fn is_writable(folder: &Path) -> bool {
    // A relative path's last ancestor is empty and means here.
    let there = folder.ancestors().find(|part| part.exists());
    let there = there.unwrap_or(Path::new("."));
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    there.is_dir() && accessat(CWD, there, rights, AtFlags::EACCESS).is_ok()
}

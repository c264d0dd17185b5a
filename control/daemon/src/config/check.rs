//! Reading the file, and what its values must be.

use std::net::Ipv6Addr;
use std::path::Path;

use directory::store::open_regular;
use loader::User;
use program::config::{ConfigError, absolute};

use super::{Config, HttpConfig};

/// Reads and checks the file: what `--check-config` does and what every start does.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = program::config::read(file, open_regular(file))?;
    parse(&text, file)
}

/// Reads and checks a text.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let config: Config = program::config::parse(text, file)?;
    let error = |key, problem: &str, remedy| ConfigError::of((file, text), key, problem, remedy);
    if config.authority.is_some() && config.xdp.is_some() {
        return Err(error(
            ("authority", ""),
            "together with [xdp]: who listens to the Internet does not touch the kernel for a node",
            "run an authority as a second mixctld with a file, a user and a unit of its own",
        ));
    }
    if config.authority.is_some() && config.keys.is_some() {
        return Err(error(
            ("authority", ""),
            "together with [keys]: who listens to the Internet holds no keys of a node",
            "run an authority as a second mixctld with a file, a user and a unit of its own",
        ));
    }
    check_paths(&config, (file, text))?;
    let of_xdp = config.xdp.as_ref().map(|xdp| &xdp.node_user);
    let of_keys = config.keys.as_ref().map(|keys| &keys.node_user);
    for (section, user) in [("xdp", of_xdp), ("keys", of_keys)] {
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            continue;
        };
        let refused = |why: &str| {
            error(
                (section, "node_user"),
                why,
                "name the user that runs mixnode",
            )
        };
        User::parse(user).map_err(|why| refused(&why))?;
        if user != config.node_user() {
            return Err(refused(
                "[xdp] node_user names another, and there is one node",
            ));
        }
    }
    if let Some(http) = &config.http {
        check_http(&config, http, (file, text))?;
    }
    let Some(authority) = &config.authority else {
        return Ok(config);
    };
    if authority.listen.port() == 0 {
        let remedy = "name a port, such as 7070";
        return Err(error(
            ("authority", "listen"),
            "port 0 is another one at every start",
            remedy,
        ));
    }
    if authority.admission != "open" && !Path::new(&authority.admission).is_absolute() {
        let problem = format!("{:?} is no absolute path", authority.admission);
        let remedy = "name the list of nodes, or \"open\" in a laboratory";
        return Err(error(("authority", "admission"), &problem, remedy));
    }
    Ok(config)
}

/// Every path but the list of nodes, which may be `open` instead.
fn check_paths(config: &Config, of: (&Path, &str)) -> Result<(), ConfigError> {
    let (xdp, directory, authority) = (&config.xdp, &config.directory, &config.authority);
    let paths = [
        ("xdp", "pins", xdp.as_ref().map(|xdp| &xdp.pins)),
        (
            "directory",
            "network",
            directory.as_ref().map(|one| &one.network),
        ),
        (
            "directory",
            "folder",
            directory.as_ref().map(|one| &one.folder),
        ),
        ("authority", "key", authority.as_ref().map(|one| &one.key)),
        (
            "authority",
            "network",
            authority.as_ref().map(|one| &one.network),
        ),
        (
            "authority",
            "state_dir",
            authority.as_ref().map(|one| &one.state_dir),
        ),
    ];
    for (section, key, path) in paths {
        path.map_or(Ok(()), |path| absolute(of, (section, key), path))?;
    }
    let http = &config.http;
    for (section, path) in [
        ("xdp", xdp.as_ref().map(|xdp| &xdp.socket)),
        ("http", http.as_ref().map(|http| &http.socket)),
    ] {
        // `sun_path` has 108 bytes, the last of them zero.
        let Some(path) = path.filter(|path| !path.is_absolute() || path.as_os_str().len() > 107)
        else {
            continue;
        };
        let problem = format!("`{}` is no place for a socket", path.display());
        let remedy = "use an absolute path of at most 107 bytes";
        return Err(ConfigError::of(of, (section, "socket"), &problem, remedy));
    }
    Ok(())
}

fn check_http(config: &Config, http: &HttpConfig, of: (&Path, &str)) -> Result<(), ConfigError> {
    let error =
        |key: &str, problem: &str, remedy| ConfigError::of(of, ("http", key), problem, remedy);
    if config.directory.is_none() {
        return Err(error(
            "",
            " has nothing to answer with beside no [directory]",
            "add that section, or remove this one",
        ));
    }
    group(&http.group).map_err(|why| error("group", &why, "name the group of who may ask"))?;
    if let Some(listen) = http.listen {
        let problem = format!(
            "{listen} is reached from other hosts, and what is said there is not encrypted"
        );
        let remedy = "listen on 127.0.0.1 and come by `ssh -L`; or set allow_remote = true behind a proxy with TLS";
        if !listen.ip().is_loopback() && !http.allow_remote {
            return Err(error("listen", &problem, remedy));
        }
        if listen.port() == 0 {
            let remedy = "name a port, such as 9102";
            return Err(error(
                "listen",
                "port 0 is another one at every start",
                remedy,
            ));
        }
        if !http.token.is_absolute() {
            let problem = format!("{} is no absolute path", http.token.display());
            return Err(error(
                "token",
                &problem,
                "name the file that the token lies in",
            ));
        }
    }
    if let Some(host) = http.hosts.iter().find(|host| !is_name(host)) {
        let problem = format!("{host:?} is no host's name");
        let remedy =
            "write it as \"mix.example\", without http:// and without a port: any port is taken";
        return Err(error("hosts", &problem, remedy));
    }
    let Some(page) = http.node_metrics else {
        return Ok(());
    };
    let remedy = "name the node's own [metrics] listen, such as 127.0.0.1:9101";
    if !page.ip().is_loopback() || page.port() == 0 {
        let problem = format!("{page} is no address of a page on this host");
        return Err(error("node_metrics", &problem, remedy));
    }
    Ok(())
}

/// Whether a browser's Host could be it, once its port is cut off: a name or an address, that of IPv6 in brackets.
fn is_name(host: &str) -> bool {
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.bytes().all(plain)
        }
    }
}

/// The number of a group, by its name or itself; none for an empty text.
///
/// # Errors
/// /etc/group has no such name.
pub(crate) fn group(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = text.parse() {
        return Ok(Some(number));
    }
    let groups =
        std::fs::read_to_string("/etc/group").map_err(|error| format!("/etc/group: {error}"))?;
    // name:password:GID:members
    let fields = groups.lines().map(|line| line.split(':'));
    let mut named = fields.filter_map(|mut fields| {
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok())?
    });
    let number = named.next();
    number.map_or_else(
        || Err(format!("no group {text} in /etc/group")),
        |number| Ok(Some(number)),
    )
}

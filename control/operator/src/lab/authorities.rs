//! `mixctl lab --authorities`: processes that agree on documents as those of any network do, over HTTP on this host. The
//! lab's parent follows them for all of its nodes, as `mixctld` does beside one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use directory::{Bootstrap, Chain, Identity};

use super::child::Helper;
use super::network::{unix_ms, utf8};
use super::options::Options;
use control::authority::key;
use control::config::DirectoryConfig;
use control::exit::{self, Failure};
use control::follower::Follower;

/// The authorities of a lab. They end with it.
#[derive(Debug)]
pub struct Authorities {
    chain: Chain,
    /// Those that are not known to have ended.
    running: Vec<Helper>,
}

impl Authorities {
    /// Founds a network whose epochs begin now, starts its authorities, and follows them into the folder that the nodes
    /// read.
    ///
    /// # Errors
    /// The file system's, or a process or thread can't be started.
    pub fn found(root: &Path, options: &Options) -> Result<Authorities, Failure> {
        let folder = |number: u8| root.join("authorities").join(number.to_string());
        let mut founders: Vec<(Identity, SocketAddr)> = Vec::new();
        for number in 1..=options.authorities {
            fs::create_dir_all(folder(number))?;
            let key = key::create(&folder(number).join("authority.key"))?;
            founders.push((key, options.authority_address(number)));
        }
        let members: Vec<_> = founders.iter().map(|(key, at)| (key, *at)).collect();
        let chain = Chain::founded_by(options.parameters(unix_ms()), &members)
            .map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
        let network = root.join("network");
        let founding = Bootstrap {
            chain: chain.clone(),
            consensus: None,
        };
        founding.write(&network)?;
        let mut running = Vec::new();
        for number in 1..=options.authorities {
            let config = folder(number).join("authority.toml");
            fs::write(
                &config,
                config_of(&folder(number), &network, number, options)?,
            )?;
            running.push(Helper::authority(number, &config)?);
        }
        let follower = Follower::new(&DirectoryConfig {
            network,
            folder: root.join("directory"),
        })?;
        follower.start()?;
        Ok(Authorities { chain, running })
    }

    /// Who they are.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Why one of them ended, if one has.
    pub fn failure(&mut self) -> Option<Failure> {
        self.running.iter_mut().find_map(Helper::failure)
    }

    /// What is to be said of those that ended since this was asked last.
    pub fn gone(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        self.running.retain_mut(|helper| match helper.failure() {
            Some(failure) => {
                said.push(failure.to_string());
                false
            }
            None => true,
        });
        said
    }
}

fn config_of(
    folder: &Path,
    network: &Path,
    number: u8,
    options: &Options,
) -> Result<String, Failure> {
    let mut section = toml::Table::new();
    for (key, value) in [
        ("key", utf8(&folder.join("authority.key"))?),
        ("listen", options.authority_address(number).to_string()),
        ("admission", "open".to_owned()),
        ("network", utf8(network)?),
        ("state_dir", utf8(&folder.join("state"))?),
    ] {
        section.insert(key.to_owned(), value.into());
    }
    let document = toml::Table::from_iter([("authority".to_owned(), section.into())]);
    toml::to_string(&document).map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))
}

//! A network's document, of which production code draws paths.

use std::io;
use std::net::SocketAddr;

use directory::{Consensus, Head, LinkKey, Parameters, Path, Record, Role, select_path};
use rand_chacha::ChaCha8Rng;

const EPOCH: u32 = 1;

/// How many of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    pub(crate) gateways: u16,
    /// Of each layer.
    pub(crate) mixes: u16,
    pub(crate) layers: u8,
    pub(crate) mean_delay_us: u32,
}

/// Nodes of equal weight, each with an operator and a prefix of its own.
pub(crate) struct Network {
    pub(crate) size: Size,
    consensus: Consensus,
}

fn record(number: u16, layer: u8) -> Record {
    let mut identity = [0; 32];
    identity[..2].copy_from_slice(&number.to_be_bytes());
    let mut x25519 = identity;
    x25519[31] = 9;
    let address = SocketAddr::from(([10, (number >> 8) as u8, number as u8, 1], 9_000));
    Record {
        layer,
        identity,
        role: if layer == 0 { Role::Gateway } else { Role::Mix },
        operator: format!("operator {number}"),
        addresses: vec![address],
        link: LinkKey {
            x25519,
            kem: Box::new([0; 1_184]),
        },
        epoch_key: identity,
        weight: 1_000,
        vrf_key: [0; 32],
        vrf_since: EPOCH,
        flags: 0,
        vrf_proof: None,
    }
}

impl Network {
    /// Gateways have the first indices, then come the mixes layer by layer.
    ///
    /// # Errors
    /// A network of this size can't be.
    pub(crate) fn new(size: Size) -> io::Result<Network> {
        let parameters = Parameters {
            genesis_unix_ms: 1_800_000_000_000,
            epoch_ms: 1_200_000,
            mean_delay_us: size.mean_delay_us,
            client_rate_pps: 20,
            layers: size.layers,
        };
        let gateways = (0..size.gateways).map(|_| 0);
        let mixes = (1..=size.layers).flat_map(|layer| (0..size.mixes).map(move |_| layer));
        let layers = gateways.chain(mixes);
        let records = (0..)
            .zip(layers)
            .map(|(number, layer)| record(number, layer));
        let consensus = Consensus::new(Head::bare(parameters, EPOCH), records.collect());
        Ok(Network {
            size,
            consensus: consensus.map_err(io::Error::other)?,
        })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.consensus.nodes().len()
    }

    /// Whether a node is a mix.
    pub(crate) fn is_mix(&self, node: u16) -> bool {
        node >= self.size.gateways
    }

    /// Where a user is attached.
    pub(crate) fn gateway_of(&self, user: u32) -> u16 {
        (user % u32::from(self.size.gateways)) as u16
    }

    /// As clients draw it.
    pub(crate) fn path(&self, rng: &mut ChaCha8Rng, from: u32, to: u32) -> io::Result<Path> {
        let (entry, exit) = (self.gateway_of(from), self.gateway_of(to));
        select_path(&self.consensus, rng, entry, exit).map_err(io::Error::other)
    }
}

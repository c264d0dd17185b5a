//! The network's parameters and the arithmetic of epochs.

use crate::wire::{DecodeError, Reader};

/// Most mix layers a network may have: five hops less the two gateways.
pub const LAYERS_MAX: u8 = 3;
/// Delays are sampled below this many means, and nodes reject longer ones.
pub const DELAY_CAP_MEANS: u32 = 10;
/// Mean delays that a packet is given to arrive, at most: five hops of ten each.
const GRACE_MEANS: u64 = DELAY_CAP_MEANS as u64 * HOPS;
const HOPS: u64 = sphinx::HOPS_MAX as u64;
/// A mean delay a hop over a minute would overflow the cap's u32 only far later; the bound keeps pools sane.
const MEAN_DELAY_US_MAX: u32 = 60_000_000;
const EPOCH_MS_MIN: u64 = 1_000;
const EPOCH_MS_MAX: u64 = 7 * 24 * 3_600_000;
const CLIENT_RATE_PPS_MAX: u32 = 100_000;

/// What all participants of one network agree on; part of every consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Wall-clock start of epoch 0, milliseconds since the Unix epoch.
    pub genesis_unix_ms: u64,
    /// Length of an epoch in milliseconds.
    pub epoch_ms: u64,
    /// Mean of the exponential delay at each hop, microseconds.
    pub mean_delay_us: u32,
    /// Rate of a client's Poisson process towards its gateway, packets a second.
    pub client_rate_pps: u32,
    /// Number of mix layers, 1 to [`LAYERS_MAX`].
    pub layers: u8,
}

impl Parameters {
    /// The epoch that `unix_ms` falls in; 0 before the genesis.
    pub fn epoch_at(&self, unix_ms: u64) -> u32 {
        let elapsed = unix_ms.saturating_sub(self.genesis_unix_ms);
        u32::try_from(elapsed / self.epoch_ms.max(1)).unwrap_or(u32::MAX)
    }

    /// First millisecond of `epoch`.
    pub fn epoch_starts_ms(&self, epoch: u32) -> u64 {
        self.genesis_unix_ms
            .saturating_add(u64::from(epoch).saturating_mul(self.epoch_ms))
    }

    /// First millisecond after `epoch`.
    pub fn epoch_ends_ms(&self, epoch: u32) -> u64 {
        self.epoch_starts_ms(epoch).saturating_add(self.epoch_ms)
    }

    /// A round, one part in 32 of an epoch, milliseconds.
    pub fn round_ms(&self) -> u64 {
        self.epoch_ms / 32
    }

    /// Each sender goes over to a new epoch at a moment of its own, drawn from this span after the
    /// epoch's start: a clock that is a little off marks nobody.
    pub fn turn_spread_ms(&self) -> u64 {
        self.round_ms() / 2
    }

    /// So long after the end of an epoch packets of it are on their way, from the last sender that
    /// turns and through all delays: who holds the next epoch's document refuses them from then on.
    /// Were they taken longer, a gateway could keep a client's packets back and release them as the
    /// only old ones in the network.
    pub fn grace_ms(&self) -> u64 {
        let delays_ms = (u64::from(self.mean_delay_us) * GRACE_MEANS).div_ceil(1_000);
        (self.round_ms() * 3 / 4)
            .saturating_add(delays_ms)
            .min(self.epoch_ms)
    }

    /// In an epoch without a document packets of the one before are made until so long before its
    /// end: then they still arrive while their keys live.
    pub fn travel_ms(&self) -> u64 {
        (u64::from(self.delay_max_us()) * HOPS).div_ceil(1_000)
    }

    /// The longest delay a sender may ask of a hop, microseconds.
    pub fn delay_max_us(&self) -> u32 {
        self.mean_delay_us.saturating_mul(DELAY_CAP_MEANS)
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The name of the first parameter out of its bounds.
    pub fn check(&self) -> Result<(), DecodeError> {
        let within = |holds: bool, what| holds.then_some(()).ok_or(DecodeError::Field(what));
        within(self.genesis_unix_ms < 1 << 48, "genesis")?;
        within(
            (EPOCH_MS_MIN..=EPOCH_MS_MAX).contains(&self.epoch_ms),
            "epoch length",
        )?;
        within(
            (1..=MEAN_DELAY_US_MAX).contains(&self.mean_delay_us),
            "mean delay",
        )?;
        within(
            (1..=CLIENT_RATE_PPS_MAX).contains(&self.client_rate_pps),
            "client rate",
        )?;
        within((1..=LAYERS_MAX).contains(&self.layers), "number of layers")
    }

    /// Appends the 25 bytes of its encoding.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.genesis_unix_ms.to_be_bytes());
        bytes.extend_from_slice(&self.epoch_ms.to_be_bytes());
        bytes.extend_from_slice(&self.mean_delay_us.to_be_bytes());
        bytes.extend_from_slice(&self.client_rate_pps.to_be_bytes());
        bytes.push(self.layers);
    }

    /// Reads what [`Parameters::encode`] wrote.
    ///
    /// # Errors
    /// A parameter out of its bounds, or too few bytes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let parameters = Self {
            genesis_unix_ms: reader.u64()?,
            epoch_ms: reader.u64()?,
            mean_delay_us: reader.u32()?,
            client_rate_pps: reader.u32()?,
            layers: reader.u8()?,
        };
        parameters.check()?;
        Ok(parameters)
    }
}

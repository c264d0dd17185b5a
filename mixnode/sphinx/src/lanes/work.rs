//! What a batch asks of the lanes.

use super::RESULTS_MAX;

/// Products of scalars and points, and for the first few scalars their public keys too. Together they are at most
/// [`RESULTS_MAX`] results, groups counted in full.
pub(super) struct Work<'a> {
    pub(super) scalars: &'a [[u8; 32]],
    /// As many as scalars.
    pub(super) points: &'a [[u8; 32]],
    /// As many as scalars.
    pub(super) shared: &'a mut [[u8; 32]],
    /// As many as scalars, or none.
    pub(super) public_keys: &'a mut [[u8; 32]],
}

impl Work<'_> {
    /// The scalars of one group; lanes without one multiply by 2^254.
    pub(super) fn scalars(&self, group: usize, lanes: usize) -> [[u8; 32]; 8] {
        group_of(self.scalars, group, lanes)
    }

    /// The points of one group; lanes without one have the point 0.
    pub(super) fn points(&self, group: usize, lanes: usize) -> [[u8; 32]; 8] {
        group_of(self.points, group, lanes)
    }

    /// Takes the results: products first, public keys from `bases` on.
    pub(super) fn take(&mut self, out: &[[u8; 32]; RESULTS_MAX], bases: usize) {
        for (shared, out) in self.shared.iter_mut().zip(out) {
            *shared = *out;
        }
        for (public_key, out) in self.public_keys.iter_mut().zip(out.iter().skip(bases)) {
            *public_key = *out;
        }
    }
}

fn group_of(from: &[[u8; 32]], group: usize, lanes: usize) -> [[u8; 32]; 8] {
    let mut out = [[0; 32]; 8];
    for (out, bytes) in out
        .iter_mut()
        .zip(from.iter().skip(group * lanes).take(lanes))
    {
        *out = *bytes;
    }
    out
}

//! What the cases say together: sums of parts, and how many times faster.

use std::collections::BTreeMap;

use super::{hops, symmetric, x25519};
use crate::cases::Samples;
use crate::stats::Ratio;
use sphinx::lanes::Lanes;

/// The computed row: X25519 at a full batch and the symmetric parts.
pub(super) const SUM_OF_PARTS: &str = "hop native, sum of its parts";

const FULL: usize = sphinx::BATCH_MAX;

fn find<'a>(samples: &'a [Samples], name: &str, batch: usize) -> Option<&'a [f64]> {
    samples
        .iter()
        .find(|row| row.name == name && row.batch == Some(batch))
        .map(|row| row.ns.as_slice())
}

/// How many times faster; none if one of the two was not measured.
pub(super) fn ratios(lanes: Lanes, samples: &[Samples]) -> BTreeMap<String, Ratio> {
    let of = |name: &str, batch| find(samples, name, batch);
    let ours = of(&x25519::name(lanes), FULL);
    let aws_lc = of(x25519::AWS_LC, 1);
    let peer = of(hops::HOP_PEER, 1);
    let native = of(hops::HOP_NATIVE, FULL);
    let compared = [
        ("hop_native_vs_sphinx_packet", peer, native),
        // The same packets.
        ("hop_nym_vs_sphinx_packet", peer, of(hops::HOP_NYM, FULL)),
        ("x25519_vs_aws_lc", aws_lc, ours),
        ("x25519_vs_dalek", of(x25519::DALEK, 1), ours),
        (
            "avx2_x25519_vs_aws_lc",
            aws_lc,
            of("x25519 ours, avx2", FULL),
        ),
        // 1 is a hop that costs nothing beside its parts measured alone.
        ("hop_native_vs_parts", native, of(SUM_OF_PARTS, FULL)),
    ];
    compared
        .into_iter()
        .filter_map(|(name, slow, fast)| Some((name.to_owned(), Ratio::of(slow?, fast?))))
        .collect()
}

/// Puts the sum of the hop's parts after the hop.
pub(super) fn add_sum(lanes: Lanes, samples: &mut Vec<Samples>) {
    let x25519 = find(samples, &x25519::name(lanes), FULL);
    let parts = symmetric::PARTS.map(|part| find(samples, part, 1));
    let parts = std::iter::once(x25519).chain(parts);
    let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
        return;
    };
    let sum = Samples {
        name: SUM_OF_PARTS.into(),
        batch: Some(FULL),
        ns: Samples::sum(&parts),
    };
    let after = samples.iter().rposition(|row| row.name == hops::HOP_NATIVE);
    samples.insert(after.map_or(samples.len(), |index| index + 1), sum);
}

//! Who carries what in an epoch: mixes in the order of their VRF outputs, dealt to the layers in turn.
//!
//! Dealt, and not drawn each for itself, so that layers differ by one node at most: with independent draws one of three
//! layers of nine mixes would be empty in 8 % of epochs.

use core::borrow::Borrow;

use crate::beacon::layer_input;
use crate::descriptor::Role;
use crate::head::Head;
use crate::record::{Record, WAITING};
use crate::vrf::{self, VRF_OUTPUT_BYTES};

/// The output that a record's proof proves.
///
/// A mix proves over the beacon of the document before; a gateway has no place to be dealt and proves nothing.
pub fn output(head: &Head, record: &Record) -> Option<[u8; VRF_OUTPUT_BYTES]> {
    if record.role == Role::Gateway {
        return None;
    }
    let input = layer_input(&head.network, head.epoch, &head.previous.beacon);
    vrf::verify(&record.vrf_key, &input, record.vrf_proof.as_ref()?).ok()
}

/// The layer of each record, in their order. `outputs` are theirs as [`output`] gives them.
///
/// A mix is dealt if its proof is valid and its key stood in a signed document before the first reveal for the beacon
/// that it proves over, so that nobody chose the key by what it would prove. Where that leaves fewer mixes than layers,
/// in the first two documents of a network and after a long outage, keys of any age count. Who leaves or is paused is
/// not dealt.
pub fn deal<R: Borrow<Record>>(
    head: &Head,
    records: &[R],
    outputs: &[Option<[u8; VRF_OUTPUT_BYTES]>],
) -> Vec<u8> {
    let mut proved: Vec<(&[u8; VRF_OUTPUT_BYTES], &Record)> = outputs
        .iter()
        .zip(records.iter().map(R::borrow))
        .filter(|(_, record)| record.role == Role::Mix && record.flags == 0)
        .filter_map(|(output, record)| Some((output.as_ref()?, record)))
        .collect();
    let layers = head.parameters.layers;
    let is_old = |record: &Record| !head.is_first() && record.vrf_since < head.previous.epoch;
    let old = proved.iter().filter(|(_, record)| is_old(record)).count();
    if old >= usize::from(layers) {
        proved.retain(|(_, record)| is_old(record));
    }
    proved.sort_unstable_by_key(|(output, record)| (*output, record.identity));
    let mut dealt: Vec<(&[u8; 32], u8)> = proved
        .into_iter()
        .zip((1..=layers).cycle())
        .map(|((_, record), layer)| (&record.identity, layer))
        .collect();
    dealt.sort_unstable();
    let layer = |record: &Record| match record.role {
        Role::Gateway if record.flags == 0 => 0,
        Role::Gateway => WAITING,
        Role::Mix => dealt
            .binary_search_by(|(identity, _)| (*identity).cmp(&record.identity))
            .ok()
            .and_then(|at| dealt.get(at))
            .map_or(WAITING, |(_, layer)| *layer),
    };
    records.iter().map(R::borrow).map(layer).collect()
}

//! Control frames between a client and its gateway: one encoding, and documents that travel in chunks.

use link::control::{
    Assembly, CHALLENGE_BYTES, CHUNK_BYTES, Control, ControlError, DOCUMENT_BYTES_MAX, FRAME_BYTES,
};
use proptest::prelude::*;

#[test]
fn a_document_travels_in_chunks_in_any_order() {
    let document: Vec<u8> = (0..10_000u32).map(|at| (at % 251) as u8).collect();
    let count = u16::try_from(document.len().div_ceil(CHUNK_BYTES)).unwrap();
    let receive = |chunk| {
        let mut frame = [0; FRAME_BYTES];
        Control::chunk_of(0, &document, chunk).encode(&mut frame);
        Control::decode(&frame).unwrap()
    };
    let mut assembly = Assembly::start(receive(count - 1)).unwrap();
    assert_eq!(assembly.finish(), None);
    for chunk in (0..count).rev() {
        assembly.accept(receive(chunk));
        assembly.accept(receive(chunk));
    }
    assert_eq!(assembly.missing(0), None);
    assert_eq!(assembly.finish(), Some(document.clone()));
    // Past the end, or no such document: the empty answer, which starts no assembly.
    assert!(Assembly::start(receive(count)).is_none());
    assert!(Assembly::start(Control::chunk_of(5, &[], 0)).is_none());
}

#[test]
fn what_is_no_control_frame_is_refused_by_its_reason() {
    let mut frame = [0; FRAME_BYTES];
    assert_eq!(Control::decode(&frame), Err(ControlError::Type));
    frame[0] = 1;
    assert_eq!(Control::decode(&frame), Ok(Control::Attach { rate_pps: 0 }));
    frame[FRAME_BYTES - 1] = 1;
    assert_eq!(Control::decode(&frame), Err(ControlError::Unused));
    let mut chunk = [0; FRAME_BYTES];
    Control::chunk_of(7, &[1; 2_000], 1).encode(&mut chunk);
    chunk[12] ^= 1;
    assert!(matches!(
        Control::decode(&chunk),
        Err(ControlError::Length | ControlError::Unused)
    ));
    // A document longer than any: refused before anything is kept for it.
    Control::Chunk {
        epoch: 1,
        total_bytes: DOCUMENT_BYTES_MAX as u32 + 1,
        chunk: 0,
        data: Box::new(std::iter::repeat_n(1, CHUNK_BYTES).collect()),
    }
    .encode(&mut chunk);
    assert_eq!(Control::decode(&chunk), Err(ControlError::Length));
}

proptest! {
    #[test]
    fn control_frames_have_one_encoding(
        kind in 0u8..15, head in proptest::array::uniform15(0u8..9), fill in 0u8..2, length in 0usize..1_184,
    ) {
        let mut frame = [0; FRAME_BYTES];
        frame[0] = kind;
        frame[1..16].copy_from_slice(&head);
        frame[16..16 + length].fill(fill);
        if let Ok(control) = Control::decode(&frame) {
            let mut again = [0xff; FRAME_BYTES];
            control.encode(&mut again);
            prop_assert!(frame == again);
        }
    }

    #[test]
    fn every_control_frame_survives_the_wire(
        kind in 0u8..9, epoch: u32, rate_pps: u32, chunk in 0u16..4, size in 1usize..4_000,
        nonce: [u8; CHALLENGE_BYTES],
    ) {
        let control = match kind {
            0 => Control::Attach { rate_pps },
            1 => Control::Attached { rate_pps },
            2 => Control::Fetch { epoch, chunk },
            3 => Control::Challenge { nonce },
            4 => Control::Answer { nonce },
            5 => Control::Leaving { epoch },
            6 => Control::Full,
            7 => Control::Restarted,
            _ => Control::chunk_of(epoch, &vec![7; size], chunk),
        };
        let mut frame = [0; FRAME_BYTES];
        control.encode(&mut frame);
        prop_assert_eq!(Control::decode(&frame).unwrap(), control);
    }
}

//! Data frames between two ends of a finished handshake.

mod common;

use common::*;
use link::*;
use proptest::prelude::*;

#[test]
fn both_ways_of_a_session_carry_every_kind() {
    let (mut a, mut b) = Ends::new(1).sessions();
    for (index, kind) in [Kind::Sphinx, Kind::Delivery, Kind::Cover, Kind::Control]
        .into_iter()
        .enumerate()
    {
        let epoch = index as u8;
        let mut frame = seal(&mut a.send, kind, epoch, 7);
        assert_eq!(
            peek(&frame),
            Ok(Datagram::Data {
                receiver_index: b.local_index,
                counter: index as u64
            }),
            "the clear bytes route the frame"
        );
        assert_eq!(
            open(&b.receive, &mut frame),
            Ok(Opened {
                counter: index as u64,
                kind,
                epoch
            })
        );
        assert_eq!(frame[CONTENT_OFFSET..][..CONTENT_BYTES], [7; CONTENT_BYTES]);
        let mut back = seal(&mut b.send, kind, epoch, 9);
        assert!(open(&a.receive, &mut back).is_ok());
        assert_eq!(back[CONTENT_OFFSET..][..CONTENT_BYTES], [9; CONTENT_BYTES]);
    }
}

#[test]
fn every_single_bit_flip_of_a_frame_is_refused() {
    let (mut a, b) = Ends::new(2).sessions();
    let frame = seal(&mut a.send, Kind::Sphinx, 1, 0);
    for bit in 0..DATAGRAM_BYTES * 8 {
        let mut altered = frame;
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            open(&b.receive, &mut altered),
            Err(OpenError::Forged),
            "bit {bit}"
        );
    }
}

#[test]
fn a_frame_of_the_other_direction_or_of_another_session_is_refused() {
    let mut ends = Ends::new(3);
    let (mut a, b) = ends.sessions();
    let (_, other) = ends.sessions();
    let frame = seal(&mut a.send, Kind::Sphinx, 0, 0);
    assert_eq!(open(&a.receive, &mut frame.clone()), Err(OpenError::Forged));
    assert_eq!(
        open(&other.receive, &mut frame.clone()),
        Err(OpenError::Forged)
    );
    assert!(open(&b.receive, &mut frame.clone()).is_ok());
}

#[test]
fn a_replayed_frame_is_refused_also_within_one_batch() {
    let (mut a, mut b) = Ends::new(4).sessions();
    let frame = seal(&mut a.send, Kind::Sphinx, 0, 0);
    let (mut first, mut second) = (frame, frame);
    assert_eq!((b.receive.check(0), b.receive.check(0)), (Ok(()), Ok(())));
    let mut verdicts = arrayvec::ArrayVec::new();
    open_batch(
        &mut [
            OpenJob {
                session: b.receive.key(),
                datagram: &mut first,
            },
            OpenJob {
                session: b.receive.key(),
                datagram: &mut second,
            },
        ],
        &mut verdicts,
    );
    let admitted: Vec<_> = verdicts
        .iter()
        .map(|verdict| b.receive.admit(verdict.unwrap().counter))
        .collect();
    assert_eq!(admitted, [Ok(()), Err(WindowError::Replayed)]);
    assert_eq!(
        b.receive.check(0),
        Err(WindowError::Replayed),
        "and before any AEAD from now on"
    );
}

#[test]
fn a_forged_frame_does_not_move_the_window() {
    let (mut a, mut b) = Ends::new(5).sessions();
    let mut forged = [4; DATAGRAM_BYTES];
    let Ok(Datagram::Data { counter, .. }) = peek(&forged) else {
        panic!("a data frame")
    };
    assert_eq!(b.receive.check(counter), Err(WindowError::Exhausted));
    forged[5..8].fill(0);
    let Ok(Datagram::Data { counter, .. }) = peek(&forged) else {
        panic!("a data frame")
    };
    assert_eq!((counter, b.receive.check(counter)), (0x0404_0404, Ok(())));
    assert_eq!(open(&b.receive, &mut forged), Err(OpenError::Forged));
    let mut honest = seal(&mut a.send, Kind::Sphinx, 0, 0);
    let opened = open(&b.receive, &mut honest).unwrap();
    assert_eq!(b.receive.admit(opened.counter), Ok(()));
}

#[test]
fn an_authentic_frame_with_reserved_bits_is_refused() {
    use aes_gcm::aead::{AeadInOut, KeyInit};
    // Only who holds the key can make one, so the test builds a session of known keys by hand.
    let (mut a, b) = Ends::new(6).sessions();
    let mut frame = seal(&mut a.send, Kind::Sphinx, 0, 0);
    assert!(open(&b.receive, &mut frame).is_ok());
    let cipher = aes_gcm::Aes256Gcm::new(&[3; 32].into());
    let forge = |head: [u8; 4]| {
        let mut frame = [0; DATAGRAM_BYTES];
        frame[0] = 4;
        frame[12..16].copy_from_slice(&head);
        let clear: [u8; 12] = frame[..12].try_into().unwrap();
        let tag = cipher
            .encrypt_inout_detached(&clear.into(), &clear, (&mut frame[12..1216]).into())
            .unwrap();
        frame[1216..].copy_from_slice(&tag);
        frame
    };
    let key = ReceiveKey::new(&[3; 32]);
    let verdict = |mut frame: Packet| {
        let mut verdicts = arrayvec::ArrayVec::new();
        open_batch(
            &mut [OpenJob {
                session: &key,
                datagram: &mut frame,
            }],
            &mut verdicts,
        );
        verdicts[0]
    };
    assert!(verdict(forge([1, 3, 0, 0])).is_ok());
    for head in [
        [0, 0, 0, 0],
        [5, 0, 0, 0],
        [255, 0, 0, 0],
        [1, 4, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 0x80],
    ] {
        assert_eq!(verdict(forge(head)), Err(OpenError::Reserved), "{head:?}");
    }
}

#[test]
fn a_session_is_renewed_by_age_and_then_ends() {
    let (a, b) = Ends::new(7).sessions();
    assert!(!a.send.needs_rekey(NOW_NS + REKEY_AFTER_NS - 1));
    assert!(a.send.needs_rekey(NOW_NS + REKEY_AFTER_NS));
    assert!(
        !a.send.expired(NOW_NS + EXPIRE_AFTER_NS - 1)
            && !b.receive.expired(NOW_NS + EXPIRE_AFTER_NS - 1)
    );
    assert!(
        a.send.expired(NOW_NS + EXPIRE_AFTER_NS) && b.receive.expired(NOW_NS + EXPIRE_AFTER_NS)
    );
    assert!(
        !a.send.expired(0),
        "a clock that stands before the handshake ends nothing"
    );
}

#[test]
fn frames_reordered_within_the_window_are_all_taken_once() {
    let (mut a, mut b) = Ends::new(8).sessions();
    let frames: Vec<_> = (0..300)
        .map(|_| seal(&mut a.send, Kind::Sphinx, 0, 0))
        .collect();
    for index in (0..300).map(|step| step * 113 % 300) {
        let opened = open(&b.receive, &mut frames[index].clone()).unwrap();
        assert_eq!(b.receive.admit(opened.counter), Ok(()));
    }
    assert!((0..300).all(|counter| b.receive.check(counter) == Err(WindowError::Replayed)));
}

#[test]
fn a_batch_of_many_sessions_opens_as_frame_by_frame() {
    let mut ends = Ends::new(9);
    let mut pairs: Vec<_> = (0..3).map(|_| ends.sessions()).collect();
    let mut frames: Vec<_> = (0..BATCH_MAX)
        .map(|index| seal(&mut pairs[index % 3].0.send, Kind::Delivery, 2, index as u8))
        .collect();
    frames[5][700] ^= 1;
    let mut jobs: Vec<_> = frames
        .iter_mut()
        .enumerate()
        .map(|(index, datagram)| OpenJob {
            session: pairs[index % 3].1.receive.key(),
            datagram,
        })
        .collect();
    let mut verdicts = arrayvec::ArrayVec::new();
    open_batch(&mut jobs, &mut verdicts);
    for (index, verdict) in verdicts.iter().enumerate() {
        let counter = index as u64 / 3;
        let expected = Opened {
            counter,
            kind: Kind::Delivery,
            epoch: 2,
        };
        assert_eq!(
            *verdict,
            if index == 5 {
                Err(OpenError::Forged)
            } else {
                Ok(expected)
            }
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_datagram_makes_peek_or_open_panic(
        mut datagram in proptest::collection::vec(any::<u8>(), 0..1400),
        kind in 0_u8..6,
    ) {
        if let Some(first) = datagram.first_mut() { *first = kind }
        let _ = peek(&datagram);
        if let Ok(datagram) = <&mut Packet>::try_from(&mut datagram[..]) {
            let (_, b) = Ends::new(10).sessions();
            prop_assert_eq!(open(&b.receive, datagram), Err(OpenError::Forged));
        }
    }
}

//! The parser on the host. `tests/kernel.rs` runs the same cases through the program.
#[path = "../tests/frames/cases.rs"]
mod cases;
#[path = "../tests/frames/mod.rs"]
mod frames;
use crate::{Parsed, Reason, Receiver, parse};
use frames::{BOTH, Builder, OWN_V4, OWN_V6, PORT, extension};
use proptest::prelude::*;

const ANY: Receiver = Receiver::any(PORT);

#[test]
fn a_frame_is_ours_at_the_nodes_address_and_at_no_other() {
    for v6 in BOTH {
        let own: core::net::IpAddr = match v6 {
            false => OWN_V4.into(),
            true => OWN_V6.into(),
        };
        let own = Receiver::from(core::net::SocketAddr::new(own, PORT));
        let frame = Builder::new(v6, 4).build();
        assert_eq!(parse(frame.as_slice(), &own), parse(frame.as_slice(), &ANY));
        for byte in 0..16 {
            let mut other = own;
            other.address[byte] ^= 1;
            let parsed = parse(frame.as_slice(), &other);
            assert_eq!(parsed, Parsed::Decided(Reason::OtherHost));
        }
        // Whatever it carries, and only then: another port is another port.
        let mut wrong = Builder::new(v6, 9);
        wrong.payload.clear();
        let mut other = own;
        other.address[15] ^= 1;
        let parsed = parse(wrong.build().as_slice(), &other);
        assert_eq!(parsed, Parsed::Decided(Reason::OtherHost));
        wrong.port = 53;
        let parsed = parse(wrong.build().as_slice(), &other);
        assert_eq!(parsed, Parsed::Decided(Reason::OtherPort));
    }
    let any: core::net::SocketAddr = "[::]:9000".parse().unwrap();
    assert_eq!(Receiver::from(any), ANY);
}

#[test]
fn every_case_is_parsed_as_its_sentence_says() {
    for (sentence, frame, expected) in cases::all() {
        assert_eq!(parse(frame.as_slice(), &ANY), expected, "{sentence}");
    }
}

#[test]
fn a_frame_cut_at_any_byte_never_counts_as_ours() {
    for v6 in BOTH {
        for tags in 0..=2 {
            let mut builder = Builder::new(v6, 4);
            builder.tags = vec![0x8100; tags];
            let frame = builder.build();
            for bytes in 0..frame.len() {
                let expected = Parsed::Decided(cases::cut(&builder, bytes));
                assert_eq!(
                    parse(&frame[..bytes], &ANY),
                    expected,
                    "cut after {bytes} bytes"
                );
            }
        }
    }
}

#[test]
fn a_frame_with_options_cut_before_its_port_passes() {
    let mut v4 = Builder::new(false, 4);
    v4.options = vec![1; 12];
    let mut v6 = Builder::new(true, 4);
    v6.extensions = vec![extension(0), extension(60)];
    for builder in [v4, v6] {
        let frame = builder.build();
        for bytes in 0..builder.udp() + 8 {
            assert_eq!(
                parse(&frame[..bytes], &ANY),
                Parsed::Decided(Reason::Truncated)
            );
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(frame in proptest::collection::vec(any::<u8>(), 0..1_500), port: u16) {
        let _ = parse(frame.as_slice(), &Receiver::any(port));
    }

    #[test]
    fn no_change_to_a_good_frame_makes_the_parser_panic(
        v6: bool, kind in 0_u8..6, cut in 0_usize..1_300,
        changes in proptest::collection::vec((0_usize..80, any::<u8>()), 0..8),
    ) {
        let mut frame = Builder::new(v6, kind).build();
        for (offset, byte) in changes {
            frame[offset] = byte;
        }
        frame.truncate(cut);
        let _ = parse(frame.as_slice(), &ANY);
    }
}

//! What must hold for any frame; shared by the fuzz target and the test that replays its corpus.

use std::cell::Cell;

use ebpf_abi::{
    DATAGRAM_BYTES, Datagram, EXTENSIONS_MAX, Packet, Parsed, Receiver, TAGS_MAX, parse,
};

/// A frame that counts how often it is read and how far, as the kernel's verifier would bound it.
struct Metered<'a> {
    frame: &'a [u8],
    reads: Cell<usize>,
    end: Cell<usize>,
}

impl Packet for Metered<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.reads.set(self.reads.get() + 1);
        let read = self.frame.read(offset);
        if read.is_some() {
            self.end.set(self.end.get().max(offset + N));
        }
        read
    }
}

/// Any bytes: the node's UDP port (big-endian), then a frame. Whether the frame was taken as ours.
pub fn check_frame(bytes: &[u8]) -> bool {
    let Some((port, frame)) = bytes.split_first_chunk::<2>() else {
        return false;
    };
    let port = u16::from_be_bytes(*port);
    let metered = Metered {
        frame,
        reads: Cell::new(0),
        end: Cell::new(0),
    };
    let receiver = Receiver::any(port);
    let parsed = parse(&metered, &receiver);
    assert_eq!(parse(frame, &receiver), parsed, "however it is read");
    // Ethertypes, IP header and destination, extension headers, UDP header, both ends of the datagram.
    let reads_max = (1 + TAGS_MAX) + 2 + EXTENSIONS_MAX + 1 + 2;
    assert!(metered.reads.get() <= reads_max);
    match parsed {
        Parsed::Ours(source, datagram) => {
            ours(frame, port, source, datagram, metered.end.get());
            true
        }
        Parsed::Decided(_) => false,
    }
}

/// Checks a frame that was taken against a reading from its end: with one size and no options, everything has its
/// place there.
fn ours(frame: &[u8], port: u16, source: [u8; 16], datagram: Datagram, end: usize) {
    assert!(end <= frame.len());
    let receiver = Receiver::any(port);
    let payload = &frame[end - DATAGRAM_BYTES..end];
    let udp = &frame[end - DATAGRAM_BYTES - 8..end - DATAGRAM_BYTES];
    assert_eq!(udp[2..4], port.to_be_bytes());
    assert_eq!(udp[4..6], (8 + DATAGRAM_BYTES as u16).to_be_bytes());
    let ip = &frame[..end - DATAGRAM_BYTES - 8];
    match ip.len() {
        // Ethernet and IPv4, with up to two tags.
        34 | 38 | 42 => {
            let header = &ip[ip.len() - 20..];
            assert_eq!((header[0], header[9]), (0x45, 17));
            assert_eq!(source[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            assert_eq!(source[12..], header[12..16]);
        }
        // Ethernet and IPv6.
        54 | 58 | 62 => {
            let header = &ip[ip.len() - 40..];
            assert_eq!((header[0] >> 4, header[6]), (6, 17));
            assert_eq!((&source[..8], &source[8..]), (&header[8..16], &[0; 8][..]));
        }
        bytes => panic!("{bytes} bytes before UDP"),
    }
    let index = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| payload[at + byte]));
    let expected = match payload[0] {
        1 => Datagram::Initiation {
            mac2: payload[DATAGRAM_BYTES - 16..].iter().any(|byte| *byte != 0),
        },
        3 => Datagram::Session(index(4)),
        2 | 4 => Datagram::Session(index(8)),
        other => panic!("type {other}"),
    };
    assert_eq!(datagram, expected);
    // Cut by a byte it is not ours any more; what an Ethernet driver pads it with changes nothing.
    assert!(matches!(
        parse(&frame[..end - 1], &receiver),
        Parsed::Decided(_)
    ));
    let padded = [frame, &[0xa5; 8]].concat();
    assert_eq!(
        parse(padded.as_slice(), &receiver),
        Parsed::Ours(source, datagram)
    );
}

//! Every branch of the parser: a sentence, a frame, and what becomes of it.
use super::frames::{BOTH, Builder, INDEX, V4, V6, extension, fragment};
use ebpf_abi::{Datagram, Parsed, Reason};

pub type Case = (&'static str, Vec<u8>, Parsed);

pub fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let mut source = [0; 16];
    source[10..12].copy_from_slice(&[0xff, 0xff]);
    source[12..].copy_from_slice(&v4);
    source
}

pub fn prefix(v6: [u8; 16]) -> [u8; 16] {
    let mut source = [0; 16];
    source[..8].copy_from_slice(&v6[..8]);
    source
}

fn made(v6: bool, change: impl Fn(&mut Builder)) -> Vec<u8> {
    let mut builder = Builder::new(v6, 4);
    change(&mut builder);
    builder.build()
}

fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

pub fn all() -> Vec<Case> {
    let mut cases = only_v4();
    cases.extend(only_v6());
    for v6 in BOTH {
        cases.extend(either(v6));
    }
    cases
}

fn either(v6: bool) -> Vec<Case> {
    let source = if v6 { prefix(V6) } else { mapped(V4) };
    let ours = |datagram| Parsed::Ours(source, datagram);
    let session = ours(Datagram::Session(INDEX));
    let decided = Parsed::Decided;
    let udp = Builder::new(v6, 4).udp();
    let plain = || made(v6, |_| {});
    let sized = |bytes| made(v6, move |b| b.payload.resize(bytes, 1));
    let kind = |kind| Builder::new(v6, kind).build();
    let tags = |tags: &[u16]| made(v6, |b| b.tags = tags.to_vec());
    vec![
        ("a data frame is ours", plain(), session),
        ("a response is for a session", kind(2), session),
        ("a cookie reply is for a session", kind(3), session),
        (
            "an initiation is for nobody yet",
            kind(1),
            ours(Datagram::Initiation { mac2: true }),
        ),
        (
            "an initiation without a mac2 is told from one with it",
            patched(kind(1), udp + 8 + 1_216, &[0; 16]),
            ours(Datagram::Initiation { mac2: false }),
        ),
        (
            "one byte is a mac2",
            patched(kind(1), udp + 8 + 1_216, &[0; 15]),
            ours(Datagram::Initiation { mac2: true }),
        ),
        ("one priority tag is followed", tags(&[0x8100]), session),
        (
            "two priority tags are followed",
            tags(&[0x88a8, 0x8100]),
            session,
        ),
        (
            "a frame of a VLAN passes",
            made(v6, |b| (b.tags, b.tag) = (vec![0x8100], 42)),
            decided(Reason::OtherVlan),
        ),
        (
            "a frame of a provider's VLAN passes",
            made(v6, |b| (b.tags, b.tag) = (vec![0x88a8, 0x8100], 0xefff)),
            decided(Reason::OtherVlan),
        ),
        (
            "three VLAN tags pass",
            tags(&[0x88a8, 0x8100, 0x8100]),
            decided(Reason::ManyTags),
        ),
        (
            "ARP passes",
            made(v6, |b| b.ethertype = Some(0x0806)),
            decided(Reason::NotIp),
        ),
        (
            "TCP passes",
            made(v6, |b| b.protocol = 6),
            decided(Reason::NotUdp),
        ),
        (
            "another port passes",
            made(v6, |b| b.port = 53),
            decided(Reason::OtherPort),
        ),
        (
            "another IP version than the ethertype says passes",
            made(!v6, |b| {
                b.ethertype = Some(if v6 { 0x86dd } else { 0x0800 })
            }),
            decided(Reason::Truncated),
        ),
        (
            "a datagram one byte short is dropped",
            sized(1_231),
            decided(Reason::WrongSize),
        ),
        (
            "a datagram one byte long is dropped",
            sized(1_233),
            decided(Reason::WrongSize),
        ),
        (
            "an empty datagram is dropped",
            sized(0),
            decided(Reason::WrongSize),
        ),
        (
            "a UDP length that disagrees is dropped",
            patched(plain(), udp + 4, &1_239_u16.to_be_bytes()),
            decided(Reason::WrongSize),
        ),
        (
            "an IP length that disagrees is dropped",
            patched(plain(), if v6 { 18 } else { 16 }, &[0, 40]),
            decided(Reason::WrongSize),
        ),
        (
            "bytes after the datagram do no harm",
            [plain(), vec![0; 6]].concat(),
            session,
        ),
        ("type 0 is dropped", kind(0), decided(Reason::UnknownType)),
        ("type 5 is dropped", kind(5), decided(Reason::UnknownType)),
        (
            "an initiation whose zeros are not is dropped",
            patched(kind(1), udp + 8 + 1, &[1]),
            decided(Reason::Reserved),
        ),
        (
            "a response whose zeros are not is dropped",
            patched(kind(2), udp + 8 + 2, &[1]),
            decided(Reason::Reserved),
        ),
        (
            "a cookie reply whose zeros are not is dropped",
            patched(kind(3), udp + 8 + 3, &[1]),
            decided(Reason::Reserved),
        ),
        (
            "a data frame's counter may have any bytes",
            patched(plain(), udp + 8 + 1, &[7; 7]),
            session,
        ),
    ]
}

fn only_v4() -> Vec<Case> {
    let bits = |bits| made(false, move |b| b.fragment = bits);
    vec![
        (
            "an IPv4 header shorter than 20 bytes passes",
            patched(made(false, |_| {}), 14, &[0x44]),
            Parsed::Decided(Reason::Truncated),
        ),
        (
            "a first IPv4 fragment of ours is dropped",
            bits(0x2000),
            Parsed::Decided(Reason::Fragment),
        ),
        (
            "a later IPv4 fragment passes",
            bits(0x2001),
            Parsed::Decided(Reason::LaterFragment),
        ),
        (
            "the last IPv4 fragment passes",
            bits(0x00ff),
            Parsed::Decided(Reason::LaterFragment),
        ),
        (
            "don't fragment is no fragment",
            bits(0x4000),
            Parsed::Ours(mapped(V4), Datagram::Session(INDEX)),
        ),
        (
            "IPv4 options are dropped",
            made(false, |b| b.options = vec![1; 4]),
            Parsed::Decided(Reason::Options),
        ),
        (
            "the longest IPv4 options are dropped",
            made(false, |b| b.options = vec![1; 40]),
            Parsed::Decided(Reason::Options),
        ),
        (
            "IPv4 options for another port pass",
            made(false, |b| {
                b.options = vec![1; 8];
                b.port = 53
            }),
            Parsed::Decided(Reason::OtherPort),
        ),
    ]
}

fn only_v6() -> Vec<Case> {
    let with =
        |extensions: Vec<(u8, Vec<u8>)>| made(true, move |b| b.extensions = extensions.clone());
    let decided = Parsed::Decided;
    vec![
        (
            "IPv6 hop-by-hop options are dropped",
            with(vec![extension(0)]),
            decided(Reason::Options),
        ),
        (
            "an IPv6 routing header is dropped",
            with(vec![extension(43)]),
            decided(Reason::Options),
        ),
        (
            "IPv6 destination options are dropped",
            with(vec![extension(60)]),
            decided(Reason::Options),
        ),
        (
            "a long IPv6 extension is followed",
            with(vec![(60, [vec![0, 2], vec![0; 22]].concat())]),
            decided(Reason::Options),
        ),
        (
            "four IPv6 extensions are followed",
            with(vec![
                extension(0),
                extension(60),
                extension(43),
                extension(60),
            ]),
            decided(Reason::Options),
        ),
        (
            "five IPv6 extensions are dropped",
            with(vec![
                extension(0),
                extension(60),
                extension(43),
                extension(60),
                extension(60),
            ]),
            decided(Reason::ManyExtensions),
        ),
        (
            "a first IPv6 fragment of ours is dropped",
            with(vec![fragment(1)]),
            decided(Reason::Fragment),
        ),
        (
            "an atomic IPv6 fragment of ours is dropped",
            with(vec![fragment(0)]),
            decided(Reason::Fragment),
        ),
        (
            "a fragment with options counts as a fragment",
            with(vec![fragment(1), extension(60)]),
            decided(Reason::Fragment),
        ),
        (
            "a later IPv6 fragment passes",
            with(vec![fragment(8)]),
            decided(Reason::LaterFragment),
        ),
        (
            "IPv6 options for another port pass",
            made(true, |b| {
                b.extensions = vec![extension(60)];
                b.port = 53
            }),
            decided(Reason::OtherPort),
        ),
        (
            "IPv6 options before TCP pass",
            made(true, |b| {
                b.extensions = vec![extension(60)];
                b.protocol = 6
            }),
            decided(Reason::NotUdp),
        ),
    ]
}

/// What a frame of ours becomes when it ends after `bytes`: it passes as long as its port can't
/// be read, and is dropped from then on.
pub fn cut(builder: &Builder, bytes: usize) -> Reason {
    if bytes < builder.udp() + 8 {
        Reason::Truncated
    } else {
        Reason::WrongSize
    }
}

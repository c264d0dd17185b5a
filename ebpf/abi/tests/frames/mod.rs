//! Builds Ethernet frames for the tests of the parser and of the program in the kernel.

pub const PORT: u16 = 9_000;
pub const INDEX: u32 = 0x0403_0201;
pub const V4: [u8; 4] = [192, 0, 2, 7];
pub const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// Where frames go.
pub const OWN_V4: [u8; 4] = [192, 0, 2, 1];
pub const OWN_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const BOTH: [bool; 2] = [false, true];

/// A frame in parts that a test may change before it is put together.
#[derive(Clone)]
pub struct Builder {
    pub tags: Vec<u16>,
    /// Priority and VLAN of every tag.
    pub tag: u16,
    pub ethertype: Option<u16>,
    pub v6: bool,
    pub v4_source: [u8; 4],
    pub v6_source: [u8; 16],
    /// IPv4 options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: protocol number and bytes, the next-header byte filled in here.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub protocol: u8,
    pub fragment: u16,
    pub port: u16,
    pub payload: Vec<u8>,
}

/// A datagram of a type, its index at every place where a type has one.
pub fn datagram(kind: u8) -> Vec<u8> {
    let mut bytes = vec![0xa5; 1_232];
    bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
    bytes[4..8].copy_from_slice(&INDEX.to_le_bytes());
    bytes[8..12].copy_from_slice(&INDEX.to_le_bytes());
    bytes
}

impl Builder {
    pub fn new(v6: bool, kind: u8) -> Self {
        Self {
            tags: vec![],
            tag: 0xa000,
            ethertype: None,
            v6,
            v4_source: V4,
            v6_source: V6,
            options: vec![],
            extensions: vec![],
            protocol: 17,
            fragment: 0,
            port: PORT,
            payload: datagram(kind),
        }
    }

    /// Offset of the UDP header.
    pub fn udp(&self) -> usize {
        let ip = if self.v6 {
            40 + self
                .extensions
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum::<usize>()
        } else {
            20 + self.options.len()
        };
        14 + 4 * self.tags.len() + ip
    }

    pub fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend(self.tag.to_be_bytes());
        }
        frame.extend(
            self.ethertype
                .unwrap_or(if self.v6 { 0x86dd } else { 0x0800 })
                .to_be_bytes(),
        );
        let udp_bytes = 8 + self.payload.len();
        if self.v6 {
            self.ipv6(&mut frame, udp_bytes)
        } else {
            self.ipv4(&mut frame, udp_bytes)
        }
        frame.extend(4_242_u16.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend((udp_bytes as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&self.payload);
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, udp_bytes: usize) {
        let header = 20 + self.options.len();
        frame.extend([0x40 | (header / 4) as u8, 0]);
        frame.extend(((header + udp_bytes) as u16).to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(self.v4_source);
        frame.extend(OWN_V4);
        frame.extend(&self.options);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, udp_bytes: usize) {
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(((extensions + udp_bytes) as u16).to_be_bytes());
        let next = |i: usize| {
            self.extensions
                .get(i)
                .map_or(self.protocol, |(number, _)| *number)
        };
        frame.extend([next(0), 64]);
        frame.extend(self.v6_source);
        frame.extend(OWN_V6);
        for (i, (_, bytes)) in self.extensions.iter().enumerate() {
            frame.push(next(i + 1));
            frame.extend(&bytes[1..]);
        }
    }
}

/// An IPv6 extension header without content, 8 bytes.
pub fn extension(number: u8) -> (u8, Vec<u8>) {
    (number, vec![0; 8])
}

/// An IPv6 fragment header with these offset and flag bits.
pub fn fragment(bits: u16) -> (u8, Vec<u8>) {
    let [high, low] = bits.to_be_bytes();
    (44, vec![0, 0, high, low, 0, 0, 0, 9])
}

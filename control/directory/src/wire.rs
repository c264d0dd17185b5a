//! The one binary encoding of this crate: big-endian integers, counts before lists, nothing optional
//! without a flag byte of exactly 0 or 1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why bytes are not the canonical encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The document ends inside a field.
    #[error("truncated")]
    Truncated,
    /// Bytes follow the last field.
    #[error("bytes after the end")]
    Trailing,
    /// The document is larger than any valid one.
    #[error("larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit of this document type.
        limit_bytes: usize,
    },
    /// The first four bytes name another type or version.
    #[error("not a document of this type and version")]
    Magic,
    /// A field holds a value that no encoder writes.
    #[error("invalid {0}")]
    Field(&'static str),
}

/// Reads fields from the front of a byte slice; every read is bounds-checked.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The four bytes that name a document's type and version.
    ///
    /// # Errors
    /// They are others.
    pub fn magic(&mut self, magic: &[u8; 4]) -> Result<(), DecodeError> {
        if &self.array::<4>()? == magic {
            Ok(())
        } else {
            Err(DecodeError::Magic)
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// There is none.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A list's count of one byte, checked before anything is reserved for the list.
    ///
    /// # Errors
    /// It is out of its bounds; `what` names the list.
    pub fn count(
        &mut self,
        minimum: usize,
        maximum: usize,
        what: &'static str,
    ) -> Result<usize, DecodeError> {
        let count = usize::from(self.u8()?);
        if (minimum..=maximum).contains(&count) {
            Ok(count)
        } else {
            Err(DecodeError::Field(what))
        }
    }

    /// A flag of one byte, 0 or 1; `what` names it.
    ///
    /// # Errors
    /// Any other byte.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Field(what)),
        }
    }

    /// A flag, and if it is set `N` bytes.
    ///
    /// # Errors
    /// The flag is neither 0 nor 1, or bytes are missing.
    pub fn optional<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<[u8; N]>, DecodeError> {
        self.flag(what)?.then(|| self.array()).transpose()
    }

    /// A socket address.
    ///
    /// # Errors
    /// No encoder writes it: a family, port or address that nobody can be reached at, or a second spelling.
    pub fn address(&mut self) -> Result<SocketAddr, DecodeError> {
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                // A mapped address would be a second spelling of an IPv4 one and escape its /24.
                if ip.to_ipv4_mapped().is_some() {
                    return Err(DecodeError::Field("address"));
                }
                IpAddr::V6(ip)
            }
            _ => return Err(DecodeError::Field("address family")),
        };
        let port = self.u16()?;
        if port == 0 || ip.is_unspecified() || ip.is_multicast() {
            return Err(DecodeError::Field("address"));
        }
        Ok(SocketAddr::new(ip, port))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

/// Appends what [`Reader::optional`] reads.
pub fn put_optional(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    bytes.push(u8::from(value.is_some()));
    bytes.extend_from_slice(value.unwrap_or_default());
}

/// A count over 255 is written as 255, which no decoder accepts: signing such a value fails.
pub(crate) fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.push(u8::try_from(count).unwrap_or(u8::MAX));
}

/// Most bytes of an encoded address.
pub const ADDRESS_BYTES_MAX: usize = 1 + 16 + 2;

/// Appends what [`Reader::address`] reads.
pub fn put_address(bytes: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
}

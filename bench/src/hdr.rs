//! Histograms as other programs read them: HdrHistogram's encoding V2, in base64. (Crate `hdrhistogram` writes it too,
//! but features are one set for all programs that are built together, and the node needs no parser and no deflate.)

use hdrhistogram::Histogram;

/// What an encoding V2 begins with: HdrHistogram, `EncodableHistogram.java`, `V2EncodingCookieBase` with the bits of
/// counts of variable length.
const COOKIE: u32 = 0x1c84_9303 | 0x10;
/// Seven bits a byte; eight such bytes leave one for the rest of 64.
const SEVENS_MAX: usize = 8;

/// The same to so many digits: less to store.
pub(crate) fn coarser(histogram: &Histogram<u64>, digits: u8) -> Histogram<u64> {
    let (low, high) = (histogram.low(), histogram.high());
    let Ok(mut coarse) = Histogram::new_with_bounds(low, high, digits) else {
        // More digits than there can be.
        return histogram.clone();
    };
    for one in histogram.iter_recorded() {
        coarse.saturating_record_n(one.value_iterated_to(), one.count_at_value());
    }
    coarse
}

/// All of a histogram.
pub(crate) fn base64_v2(histogram: &Histogram<u64>) -> String {
    let counts = counts(histogram);
    let mut bytes = Vec::new();
    bytes.extend(COOKIE.to_be_bytes());
    bytes.extend((counts.len() as u32).to_be_bytes());
    // Nothing is shifted: the index that values are normalised by.
    bytes.extend(0u32.to_be_bytes());
    bytes.extend(u32::from(histogram.sigfig()).to_be_bytes());
    bytes.extend(histogram.low().to_be_bytes());
    bytes.extend(histogram.high().to_be_bytes());
    // Values are integers, and are meant as such.
    bytes.extend(1.0f64.to_be_bytes());
    bytes.extend(counts);
    base64(&bytes)
}

/// Counts up to the last that is not zero; a run of zeros is its length, negative.
fn counts(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut zeros: i64 = 0;
    let flush = |zeros: i64, bytes: &mut Vec<u8>| match zeros {
        0 => {}
        1 => varint(0, bytes),
        more => varint(-more, bytes),
    };
    for one in histogram.iter_all() {
        match one.count_at_value() {
            0 => zeros += 1,
            count => {
                flush(std::mem::take(&mut zeros), &mut bytes);
                varint(i64::try_from(count).unwrap_or(i64::MAX), &mut bytes);
            }
        }
    }
    if bytes.is_empty() {
        varint(0, &mut bytes);
    }
    bytes
}

/// Zigzag, then seven bits a byte from the lowest on, its top bit set while more follow; a ninth byte is whole.
fn varint(number: i64, bytes: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    for _ in 0..SEVENS_MAX {
        if left < 0x80 {
            break;
        }
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |number: usize| u32::from(three.get(number).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for number in 0..4 {
            let digit = bits >> (18 - 6 * number) & 63;
            text.push(match number <= three.len() {
                true => char::from(ALPHABET[digit as usize]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        // Its section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn histograms_are_written_as_the_crate_writes_them_and_come_back_whole() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
        let mut check = |values: &[(u64, u64)]| {
            for (value, count) in values {
                histogram.record_n(*value, *count).unwrap();
            }
            let mut wanted = Vec::new();
            V2Serializer::new()
                .serialize(&histogram, &mut wanted)
                .unwrap();
            assert_eq!(base64_v2(&histogram), base64(&wanted));
            let again: Histogram<u64> = Deserializer::new().deserialize(&mut &wanted[..]).unwrap();
            assert_eq!(again, histogram);
        };
        check(&[]);
        check(&[(0, 1)]);
        // One zero between, many, and counts of one byte to nine.
        check(&[(2, 63), (3, 64), (5_000, 8_192), (59_999_999, 1)]);
        check(&[(7, 1 << 40), (8, 1 << 56), (9, (1 << 62) - 1)]);
    }
}

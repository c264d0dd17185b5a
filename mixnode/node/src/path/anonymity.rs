//! How many packets a departing one could have been: log2 of the packets that the worker held when it let it go. Holds
//! are exponential, so that whoever watches this node alone can rule none of them out. Whole numbers in the packet path.

/// A bit is so many units.
pub const UNITS_PER_BIT: u32 = 256;

/// By the eight bits after the leading one: the logarithm's fraction, in units.
static FRACTIONS: [u8; 256] = fractions();

/// log2(1 + i/256) for each i, bit by bit: squared, a mantissa passes two if the next bit is one.
const fn fractions() -> [u8; 256] {
    let mut table = [0; 256];
    let mut place = 0;
    while place < table.len() {
        // 32 bits behind the point.
        let mut mantissa = (256 + place as u128) << 24;
        let (mut bits, mut round) = (0u8, 0);
        while round < 8 {
            mantissa = (mantissa * mantissa) >> 32;
            bits <<= 1;
            if mantissa >= 2 << 32 {
                bits |= 1;
                mantissa >>= 1;
            }
            round += 1;
        }
        table[place] = bits;
        place += 1;
    }
    table
}

/// log2 in units, rounded down; 0 for none.
#[inline]
pub fn log2_units(count: u32) -> u32 {
    let Some(whole) = count.checked_ilog2() else {
        return 0;
    };
    let mantissa = (u64::from(count) << 8 >> whole) & 0xff;
    whole * UNITS_PER_BIT + u32::from(FRACTIONS[mantissa as usize])
}

/// Sums over departures; two of them make a mean of what left between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anonymity {
    /// Packets let go.
    pub departures: u64,
    /// Units, summed over them.
    pub units: u64,
    /// The same without what the neighbour who holds most of the pool had there: it knows its own.
    pub units_apart: u64,
}

impl Anonymity {
    /// So many left together; before that `held` were there, of them `largest` of one neighbour.
    #[inline]
    pub fn released(&mut self, count: u32, held: u32, largest: u32) {
        self.departures += u64::from(count);
        self.units += u64::from(count) * u64::from(log2_units(held));
        self.units_apart +=
            u64::from(count) * u64::from(log2_units(held.saturating_sub(largest).max(1)));
    }

    /// Adds another worker's: pools are apart, so means are of what each worker held.
    pub fn add(&mut self, other: &Anonymity) {
        self.departures += other.departures;
        self.units += other.units;
        self.units_apart += other.units_apart;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_a_hundredth_of_a_bit() {
        assert_eq!((log2_units(0), log2_units(1)), (0, 0));
        for power in 0..32 {
            assert_eq!(log2_units(1 << power), power * UNITS_PER_BIT);
        }
        for count in (1..100_000).chain([u32::MAX - 1, u32::MAX]) {
            let bits = f64::from(log2_units(count)) / f64::from(UNITS_PER_BIT);
            let exact = f64::from(count).log2();
            assert!(bits <= exact && exact - bits < 0.01, "{count}: {bits}");
        }
    }

    #[test]
    fn a_batch_counts_as_often_as_packets_left_in_it() {
        let mut sums = Anonymity::default();
        sums.released(3, 256, 128);
        sums.released(1, 2, 2);
        let sum = Anonymity {
            departures: 4,
            units: 3 * 8 * 256 + 256,
            units_apart: 3 * 7 * 256,
        };
        assert_eq!(sums, sum);
        sums.add(&sum);
        assert_eq!(sums.departures, 8);
    }
}

//! From values to places: scales and their ticks.

/// Ticks that an axis may have.
const TICKS_MAX: f64 = 6.0;

/// An axis's range. A linear one begins at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    Linear { high: f64, step: f64 },
    Log { low: f64, high: f64 },
}

impl Scale {
    /// From 0 to the first tick that is not below any of these.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Scale {
        let most = values.into_iter().filter(|value| value.is_finite());
        let most = most.fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = at_least(most / TICKS_MAX);
        Scale::Linear {
            high: (most / step - 1e-9).ceil() * step,
            step,
        }
    }

    /// From the last tick that is above none of these to the first that is below none. What is not above 0 has no place on
    /// it.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Scale {
        let values = values.into_iter().filter(|value| value.is_finite());
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| {
                (low.min(value), high.max(value))
            });
        if high == 0.0 {
            return Scale::Log {
                low: 1.0,
                high: 10.0,
            };
        }
        let low = 1.0 / at_least(1.0 / low);
        let high = at_least(high);
        match high > low * 1.5 {
            true => Scale::Log { low, high },
            false => Scale::Log {
                low,
                high: low * 10.0,
            },
        }
    }

    /// Where a value lies: 0 at the low end, 1 at the high one, and never outside.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let place = match *self {
            Scale::Linear { high, .. } => value / high,
            Scale::Log { low, high } => (value.max(low) / low).ln() / (high / low).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    pub(crate) fn ticks(&self) -> Vec<f64> {
        match *self {
            Scale::Linear { high, step } => {
                let count = (high / step).round() as usize;
                (0..=count).map(|tick| tick as f64 * step).collect()
            }
            Scale::Log { low, high } => {
                let decades = (high / low).log10();
                // Few decades have room for more.
                let within: &[f64] = match decades {
                    few if few <= 2.1 => &[1.0, 2.0, 5.0],
                    _ => &[1.0],
                };
                let first = low.log10().floor() as i32;
                let last = high.log10().ceil() as i32;
                let every = 1 + ((last - first) / 8) as usize;
                let decades = (first..=last).step_by(every);
                let all = decades.flat_map(|power| within.iter().map(move |one| one * ten(power)));
                all.filter(|tick| (low * 0.999..=high * 1.001).contains(tick))
                    .collect()
            }
        }
    }
}

/// Ten to the power, exact where a float can be.
fn ten(power: i32) -> f64 {
    match power < 0 {
        true => 1.0 / 10f64.powi(-power),
        false => 10f64.powi(power),
    }
}

/// The smallest of 1, 2, 5, 10, 20 and so on that is not below `value`.
fn at_least(value: f64) -> f64 {
    let power = value.log10().floor() as i32;
    let steps = [1.0, 2.0, 5.0, 10.0].map(|one| one * ten(power));
    let found = steps.into_iter().find(|one| *one >= value * (1.0 - 1e-9));
    found.unwrap_or(ten(power + 1))
}

/// A number on an axis: short, and as exact as ticks are.
pub(crate) fn label(value: f64) -> String {
    let size = value.abs();
    let (shown, unit) = match size {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match shown.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 1.0 => 2,
        size => (2.0 - size.log10().floor()).clamp(0.0, 9.0) as usize,
    };
    let text = format!("{shown:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_scale_begins_at_0_and_ends_at_a_tick_above_all() {
        let scale = Scale::linear([3.0, 93.0]);
        assert_eq!(scale.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(
            (scale.at(0.0), scale.at(50.0), scale.at(100.0)),
            (0.0, 0.5, 1.0)
        );
        // What is on a tick needs no tick above it; what is outside stays at the border.
        assert_eq!(Scale::linear([1.0]).ticks().last(), Some(&1.0));
        assert_eq!((scale.at(-5.0), scale.at(500.0)), (0.0, 1.0));
        assert_eq!(Scale::linear([f64::NAN]).ticks().len(), 6);
        assert_eq!(
            Scale::linear([0.5]).ticks(),
            [0.0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]
        );
    }

    #[test]
    fn a_log_scale_has_a_decade_per_length_and_ticks_that_fit_its_span() {
        let scale = Scale::log([30.0, 9_000.0]);
        assert_eq!(
            scale,
            Scale::Log {
                low: 20.0,
                high: 10_000.0
            }
        );
        assert_eq!(scale.ticks(), [100.0, 1_000.0, 10_000.0]);
        let scale = Scale::log([3.0, 90.0]);
        assert_eq!(scale.ticks(), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let decades = Scale::log([1.0, 100.0]);
        assert!((decades.at(10.0) - 0.5).abs() < 1e-12);
        assert_eq!((decades.at(0.0), decades.at(1e9)), (0.0, 1.0));
        assert_eq!(Scale::log([5.0]).ticks(), [5.0, 10.0, 20.0, 50.0]);
        assert_eq!(
            Scale::log([0.0, -1.0]),
            Scale::Log {
                low: 1.0,
                high: 10.0
            }
        );
        // Not one tick a decade where there are many.
        assert!(Scale::log([1e-6, 1e9]).ticks().len() <= 9);
    }

    #[test]
    fn numbers_on_axes_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.30000000000000004, "0.3"),
            (0.001, "0.001"),
            (2.5, "2.5"),
            (500.0, "500"),
            (5_000.0, "5000"),
            (20_000.0, "20k"),
            (1_500_000.0, "1.5M"),
            (-3.0, "-3"),
        ] {
            assert_eq!(label(value), text);
        }
    }
}

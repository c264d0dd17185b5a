//! Durations as people write them: `20ms`, `60s`, `20m`, `1.5s`.

use std::time::Duration;

/// Reads a number with a unit of `us`, `ms`, `s`, `m` or `h`.
///
/// # Errors
/// A sentence that names the accepted form.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no duration: write a number with a unit, as in 20ms, 60s, 20m");
    let split = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| wrong())
}

/// The shortest exact form: `20 ms`, `60 s`, `20 min`.
pub fn show(duration: Duration) -> String {
    let us = duration.as_micros();
    match us {
        _ if !us.is_multiple_of(1_000) => format!("{us} µs"),
        _ if !us.is_multiple_of(1_000_000) => format!("{} ms", us / 1_000),
        _ if us.is_multiple_of(60_000_000) && us >= 120_000_000 => {
            format!("{} min", us / 60_000_000)
        }
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, shown) in [
            ("20ms", "20 ms"),
            ("60s", "60 s"),
            ("20m", "20 min"),
            ("1.5s", "1500 ms"),
            ("250us", "250 µs"),
            ("1h", "60 min"),
        ] {
            assert_eq!(show(parse(text).unwrap()), shown);
        }
        for text in ["", "5", "s", "1.2.3s", "5 s", "-1s", "5d", "1e99s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

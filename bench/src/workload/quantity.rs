//! Rates and times on the command line.

use std::time::Duration;

/// How much is sent per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// Records per second. Invariant: above 0.
    Records(f64),
    /// Bytes of records per second. Invariant: above 0.
    Bytes(f64),
}

impl Rate {
    /// Records per second, if a record has `record_bytes` on average.
    pub(crate) fn records_per_second(self, record_bytes: f64) -> f64 {
        match self {
            Self::Records(count) => count,
            Self::Bytes(bytes) => bytes / record_bytes,
        }
    }

    /// Bytes per second, if a record has `record_bytes` on average.
    pub(crate) fn bytes_per_second(self, record_bytes: f64) -> f64 {
        self.records_per_second(record_bytes) * record_bytes
    }
}

/// Parses `50000`, `50k/s`, `50MB/s` or `50MiB/s`. A bare number counts records; `k`, `M` and `G` are powers of 1000.
pub(crate) fn parse_rate(text: &str) -> Result<Rate, String> {
    let text = text.trim().trim_end_matches("/s");
    let (number, unit) = split_unit(text)?;
    let (factor, is_bytes) = match unit {
        "" => (1.0, false),
        "k" | "K" => (1e3, false),
        "M" => (1e6, false),
        "B" => (1.0, true),
        "kB" | "KB" => (1e3, true),
        "MB" => (1e6, true),
        "GB" => (1e9, true),
        "KiB" => (1024.0, true),
        "MiB" => (1024.0 * 1024.0, true),
        "GiB" => (1024.0 * 1024.0 * 1024.0, true),
        _ => return Err(format!("{unit} is no unit of a rate; try 50000, 50k/s or 50MB/s")),
    };
    let amount = number * factor;
    if amount <= 0.0 {
        return Err("a rate is above 0; leave it out to go as fast as answers come".to_owned());
    }
    Ok(if is_bytes { Rate::Bytes(amount) } else { Rate::Records(amount) })
}

/// Parses a length of time: a number and `us`, `ms`, `s`, `m` or `h`; seconds without a unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text.trim())?;
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit} is no unit of time; try 500ms, 30s or 10m")),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

fn split_unit(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|error| format!("{error}"))?;
    if !number.is_finite() || number < 0.0 {
        return Err("not a number from 0 on".to_owned());
    }
    Ok((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_records_or_bytes() {
        assert_eq!(parse_rate("50000"), Ok(Rate::Records(50_000.0)));
        assert_eq!(parse_rate("50k/s"), Ok(Rate::Records(50_000.0)));
        assert_eq!(parse_rate("50MB/s"), Ok(Rate::Bytes(50e6)));
        assert_eq!(parse_rate("1.5KiB/s"), Ok(Rate::Bytes(1536.0)));
        for wrong in ["", "0", "-1", "fast", "5 MB", "5mb", "inf", "1e999"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert!((Rate::Bytes(1000.0).records_per_second(100.0) - 10.0).abs() < 1e-9);
        assert!((Rate::Records(10.0).bytes_per_second(100.0) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn times_take_a_unit() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["", "s", "1d", "-1s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}

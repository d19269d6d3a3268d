//! Numbers on the command line and in reports.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A number for a report, where 53 bits are plenty.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a report rounds far more than this does")]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}

/// `bytes` as a number of 64 bits.
pub(crate) fn u64_of(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a usize has at most 64 bits")
}

/// Seconds per 10^9 bytes.
pub(crate) fn seconds_per_gb(time: Duration, bytes: u64) -> f64 {
    time.as_secs_f64() / (float(bytes) / 1e9)
}

/// An empty histogram of nanoseconds, up to an hour, with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds and three digits are what a histogram takes")
}

/// Adds a duration to a histogram of nanoseconds.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

/// A quantile of a histogram of nanoseconds, in milliseconds.
pub(crate) fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    float(histogram.value_at_quantile(quantile)) / 1e6
}

/// Parses a count of bytes: digits, then nothing, `K`, `M` or `G` (powers of 1024).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("one of K, M and G may follow the digits".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_take_one_suffix() {
        assert_eq!(parse_bytes("123"), Ok(123));
        assert_eq!(parse_bytes("4K"), Ok(4096));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
        for wrong in ["", "K", "1KK", "1 K", "-1", "1k", "99999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut histogram = histogram();
        for millis in 1..=100 {
            record(&mut histogram, Duration::from_millis(millis));
        }
        assert!((quantile_ms(&histogram, 0.5) - 50.0).abs() < 0.1);
        assert!((quantile_ms(&histogram, 0.99) - 99.0).abs() < 0.2);
    }
}

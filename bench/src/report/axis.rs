//! Axes of a plot: where a value stands between their ends, and what is written beside them.
//!
//! Pure numbers; knows nothing of pictures.

/// One axis, from left to right or from below to above.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// What is shown, with its unit.
    pub(super) label: String,
    /// Where there is a line across and what it says, ascending.
    pub(super) ticks: Vec<(f64, String)>,
    scale: Scale,
    /// Invariant: below `high`, and above zero if the scale is logarithmic.
    low: f64,
    high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// From zero to `high`, or a little further up to the next line.
    pub(super) fn from_zero(label: &str, high: f64) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let step = round_step(high / LINEAR_TICKS);
        let mut ticks = vec![tick(0.0, step, high)];
        for index in 1..=TICK_COUNT_MAX {
            let value = f64::from(index) * step;
            ticks.push(tick(value, step, high));
            if value >= high * (1.0 - EPSILON) {
                break;
            }
        }
        let high = ticks.last().map_or(high, |(value, _)| *value);
        Self { label: label.to_owned(), ticks, scale: Scale::Linear, low: 0.0, high }
    }

    /// From zero to exactly `high`: time, which ends when it ends.
    pub(super) fn time(label: &str, high: f64) -> Self {
        let mut axis = Self::from_zero(label, high);
        if high > 0.0 {
            axis.ticks.retain(|(value, _)| *value <= high * (1.0 + EPSILON));
            axis.high = high;
        }
        axis
    }

    /// For values from `low` to `high`, which are positive: logarithmic if they differ much, from zero if they do not.
    pub(super) fn for_spread(label: &str, low: f64, high: f64) -> Self {
        if low <= 0.0 || high < low * SPREAD_LINEAR_MAX {
            return Self::from_zero(label, high);
        }
        let (first, last) = (low.log10().floor(), (high * (1.0 - EPSILON)).log10().ceil());
        let mut candidates = Vec::new();
        let mut exponent = first;
        while exponent <= last {
            candidates.extend([1.0, 2.0, 5.0].map(|mantissa| mantissa * 10_f64.powf(exponent)));
            exponent += 1.0;
        }
        // The ends are round: the last number not above the lowest value, and the first one not below the highest.
        let from = candidates.iter().rposition(|value| *value <= low * (1.0 + EPSILON)).unwrap_or(0);
        let to = candidates.iter().position(|value| *value >= high * (1.0 - EPSILON)).unwrap_or(candidates.len() - 1);
        let all = to - from < LOGARITHMIC_TICKS_MAX;
        let powers = |(index, _): &(usize, &f64)| all || index % 3 == 0;
        let lines = candidates.iter().enumerate().take(to + 1).skip(from).filter(powers);
        let ticks = lines.map(|(_, value)| tick(*value, *value, *value)).collect();
        let (low, high) = (candidates[from], candidates[to]);
        Self { label: format!("{label} (log scale)"), ticks, scale: Scale::Logarithmic, low, high }
    }

    /// Percentiles, each line one nine further; a value is the logarithm of 1/(1-q), up to `nines`.
    pub(super) fn nines(label: &str, nines: f64) -> Self {
        let mut ticks = vec![(0.0, "0".to_owned()), (1.0, "90".to_owned()), (2.0, "99".to_owned())];
        let mut text = "99.".to_owned();
        for index in 3..=NINES_MAX {
            if f64::from(index) >= nines + 1.0 {
                break;
            }
            text.push('9');
            ticks.push((f64::from(index), text.clone()));
        }
        let high = ticks.last().map_or(2.0, |(value, _)| *value);
        Self { label: label.to_owned(), ticks, scale: Scale::Linear, low: 0.0, high }
    }

    /// Where a value stands: 0 at the low end, 1 at the high end. What lies outside is at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let mantissas = [1.0, 2.0, 5.0, 10.0];
    let mantissa = mantissas.into_iter().find(|mantissa| mantissa * power >= step * (1.0 - EPSILON));
    mantissa.unwrap_or(10.0) * power
}

/// A line at a value, in as many digits as tell it from one a step away, in thousands if `largest` is one of many.
fn tick(value: f64, step: f64, largest: f64) -> (f64, String) {
    if value <= 0.0 {
        return (value, "0".to_owned());
    }
    let (divisor, suffix) = if largest >= 1e9 {
        (1e9, " G")
    } else if largest >= 1e6 {
        (1e6, " M")
    } else if largest >= 1e4 {
        (1e3, " k")
    } else {
        (1.0, "")
    };
    let step = step / divisor;
    let digits = [0, 1, 2, 3, 4, 5].into_iter().zip([1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5]);
    let digits = digits.into_iter().find(|(_, least)| step >= least * (1.0 - EPSILON)).map_or(6, |(digits, _)| digits);
    (value, format!("{:.digits$}{suffix}", value / divisor))
}

/// About how many lines a linear axis has above zero.
const LINEAR_TICKS: f64 = 5.0;
/// More than a linear axis ever has.
const TICK_COUNT_MAX: u32 = 10;
/// With more lines than this, a logarithmic axis has them at powers of ten only.
const LOGARITHMIC_TICKS_MAX: usize = 10;
/// Values that differ by less than this factor are shown from zero.
const SPREAD_LINEAR_MAX: f64 = 10.0;
/// One in 10^12 is as near to the end as any count of samples comes.
const NINES_MAX: u32 = 12;
/// What rounding may do to a number.
const EPSILON: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn a_linear_axis_ends_at_a_line() {
        assert_eq!(texts(&Axis::from_zero("", 9.3)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(texts(&Axis::from_zero("", 1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&Axis::from_zero("", 52_000.0)), ["0", "20 k", "40 k", "60 k"]);
        assert_eq!(texts(&Axis::from_zero("", 1_200_000.0)), ["0", "0.5 M", "1.0 M", "1.5 M"]);
        assert!(near(Axis::from_zero("", 9.3).place(5.0), 0.5));
    }

    #[test]
    fn an_axis_of_nothing_is_still_an_axis() {
        for high in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Axis::from_zero("", high).ticks.len(), 6, "{high}");
            assert!(near(Axis::from_zero("", high).place(0.5), 0.5), "{high}");
        }
        assert_eq!(Axis::time("", 0.0).ticks.len(), 6);
    }

    #[test]
    fn time_ends_when_it_ends() {
        let axis = Axis::time("", 11.0);
        assert_eq!(texts(&axis), ["0", "5", "10"]);
        assert!(near(axis.place(11.0), 1.0));
        assert_eq!(texts(&Axis::time("", 1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }

    #[test]
    fn a_wide_spread_is_logarithmic_and_a_narrow_one_is_not() {
        let wide = Axis::for_spread("ms", 0.3, 41.0);
        assert_eq!(
            (wide.label.as_str(), texts(&wide)),
            ("ms (log scale)", vec!["0.2", "0.5", "1", "2", "5", "10", "20", "50"])
        );
        assert!(near(wide.place(0.2), 0.0) && near(wide.place(50.0), 1.0) && near(wide.place(10_f64.sqrt()), 0.5));
        assert!(near(wide.place(0.0), 0.0) && near(wide.place(1e9), 1.0), "what lies outside is at the end");
        let wider = Axis::for_spread("ms", 0.06, 19_000.0);
        assert_eq!(texts(&wider), ["0.1", "1", "10", "100", "1000", "10 k"]);
        assert!(near(wider.place(0.05), 0.0) && near(wider.place(20_000.0), 1.0), "the ends need not be lines");
        assert_eq!(texts(&Axis::for_spread("ms", 2.0, 9.0)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(texts(&Axis::for_spread("ms", 0.0, 0.0)).len(), 6);
        assert_eq!(texts(&Axis::for_spread("ms", 1.0, 100.0)).last(), Some(&"100"));
    }

    #[test]
    fn percentiles_have_a_line_for_every_nine() {
        assert_eq!(texts(&Axis::nines("", 0.0)), ["0", "90", "99"]);
        assert_eq!(texts(&Axis::nines("", 3.2)), ["0", "90", "99", "99.9", "99.99"]);
        assert_eq!(Axis::nines("", 99.0).ticks.len(), 13);
        assert!(near(Axis::nines("", 3.2).place(2.0), 0.5));
    }
}

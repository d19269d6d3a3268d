//! Ranges of versions: how schemas spell them, and the conditions they become in Rust.

use std::fmt;

use anyhow::{Context as _, bail};

/// An inclusive range of versions. `i16::MAX` as the upper end stands for "and all later ones".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// Invariant: `min <= max`.
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    /// Parses `4+`, `4-18`, `4` or `none`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        if text == "none" {
            return Ok(None);
        }
        let (min, max) = match text.split_once('-') {
            Some((min, max)) => (min, max.parse().with_context(|| format!("version in {text:?}"))?),
            None => match text.strip_suffix('+') {
                Some(min) => (min, i16::MAX),
                None => (text, text.parse().with_context(|| format!("version in {text:?}"))?),
            },
        };
        let min = min.parse().with_context(|| format!("version in {text:?}"))?;
        if min > max {
            bail!("versions {text:?} end before they begin");
        }
        Ok(Some(Self { min, max }))
    }

    /// The versions in both ranges.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    /// The smallest range that holds both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The Rust condition on `version` for lying in this range, given that it lies in `scope`; nothing if always true.
    pub(crate) fn condition(self, scope: Self) -> Option<String> {
        let from = (self.min > scope.min).then_some(self.min);
        let to = (self.max < scope.max).then_some(self.max);
        match (from, to) {
            (None, None) => None,
            (Some(min), None) => Some(format!("version >= {min}")),
            (None, Some(max)) => Some(format!("version <= {max}")),
            (Some(min), Some(max)) if min == max => Some(format!("version == {min}")),
            (Some(min), Some(max)) => Some(format!("({min}..={max}).contains(&version)")),
        }
    }
}

/// For doc comments: `4-18`, `4+` or `4`.
impl fmt::Display for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            max if max == self.min => write!(formatter, "{max}"),
            i16::MAX => write!(formatter, "{}+", self.min),
            max => write!(formatter, "{}-{max}", self.min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Versions;

    #[test]
    fn schemas_spell_ranges_in_four_ways() {
        let parse = |text| Versions::parse(text).unwrap();
        assert_eq!(parse("none"), None);
        assert_eq!(parse("3"), Some(Versions { min: 3, max: 3 }));
        assert_eq!(parse("3+"), Some(Versions { min: 3, max: i16::MAX }));
        assert_eq!(parse("3-7"), Some(Versions { min: 3, max: 7 }));
        assert!(Versions::parse("7-3").is_err());
        assert!(Versions::parse("x").is_err());
    }

    #[test]
    fn a_condition_names_only_the_ends_that_the_scope_leaves_open() {
        let scope = Versions { min: 4, max: 18 };
        let condition = |min, max| Versions { min, max }.condition(scope);
        assert_eq!(condition(0, i16::MAX), None);
        assert_eq!(condition(13, 18).as_deref(), Some("version >= 13"));
        assert_eq!(condition(0, 12).as_deref(), Some("version <= 12"));
        assert_eq!(condition(7, 12).as_deref(), Some("(7..=12).contains(&version)"));
        assert_eq!(condition(7, 7).as_deref(), Some("version == 7"));
    }
}

//! The command line of a bench program, as far as it is not Criterion's own.

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Time the benchmarks; Criterion reads the arguments itself.
    Time,
    /// List the benchmarks that can be counted.
    List,
    /// Run the named benchmark for its instructions to be counted.
    Count(String),
}

impl Arguments {
    /// Reads what follows the program's name. Cargo puts `--bench` among the arguments.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        match arguments.next().as_deref() {
            Some("--list-counted") => Self::List,
            Some("--count") => Self::Count(arguments.next().expect("--count is followed by a benchmark's name")),
            _ => Self::Time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Arguments {
        Arguments::parse(arguments.iter().copied().map(str::to_owned))
    }

    #[test]
    fn what_is_not_ours_is_criterions() {
        assert_eq!(parse(&[]), Arguments::Time);
        assert_eq!(parse(&["--bench", "--noplot", "crc"]), Arguments::Time);
        assert_eq!(parse(&["--list-counted", "--bench"]), Arguments::List);
        assert_eq!(parse(&["--bench", "--count", "crc/1 KiB"]), Arguments::Count("crc/1 KiB".to_owned()));
    }

    #[test]
    #[should_panic(expected = "followed by a benchmark's name")]
    fn a_count_names_its_benchmark() {
        parse(&["--count", "--bench"]);
    }
}

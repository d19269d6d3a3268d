//! The differences that are meant.

/// A difference: the start of the step's name, the line that Kafka has and Millrace has not, and why.
struct Difference {
    step: &'static str,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
}

/// Each is on docs/COMPATIBILITY.md as well.
const DIFFERENCES: &[Difference] = &[];

/// The list, and which of it was met.
#[derive(Default)]
pub(crate) struct Accepted {
    met: Vec<usize>,
}

impl Accepted {
    /// Whether two answers differ only by lines that are listed.
    pub(crate) fn accepts(&mut self, step: &str, ours: &[String], theirs: &[String]) -> bool {
        if ours.len() != theirs.len() {
            return false;
        }
        let differing = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs);
        let mut met = Vec::new();
        for (ours, theirs) in differing {
            let is_listed = |difference: &Difference| {
                step.contains(difference.step) && ours.trim() == difference.ours && theirs.trim() == difference.theirs
            };
            match DIFFERENCES.iter().position(is_listed) {
                Some(index) => met.push(index),
                None => return false,
            }
        }
        self.met.extend(met);
        true
    }

    /// Reasons of the differences that were not met.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let unmet = DIFFERENCES.iter().enumerate().filter(|(index, _)| !self.met.contains(index));
        unmet.map(|(_, difference)| difference.why).collect()
    }
}

//! What the shards' answers mean for whoever decides over the broker: whether to send clients, whether to start it again.
//! Pure.

use std::fmt;

use super::collect::ANSWER_TIME_MAX;
use crate::shard::Stage;
use crate::shard::mailbox::question::ShardStatus;
use crate::shard::placement::ShardIndex;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It did not come in time.
    TooLong,
    /// The shard closes, or has.
    Ended,
}

/// What a shard said.
pub type ShardAnswer = Result<ShardStatus, Silence>;

/// A verdict: good, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    word: &'static str,
    reasons: Vec<String>,
}

impl Verdict {
    /// Whether there is nothing against it.
    pub fn is_good(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Whether the broker's threads are alive. One that is stopping is: starting it again would only lose time.
pub fn judge_alive(answers: &[(ShardIndex, ShardAnswer)]) -> Verdict {
    let silent = answers.iter().filter(|(_, answer)| *answer == Err(Silence::TooLong));
    Verdict { word: "alive", reasons: silent.map(|(shard, _)| silence(*shard)).collect() }
}

/// Whether clients are served, on all shards.
pub fn judge_ready(answers: &[(ShardIndex, ShardAnswer)]) -> Verdict {
    let mut reasons = Vec::new();
    let is_stopping = |answer: &ShardAnswer| match answer {
        Ok(status) => status.stage >= Stage::Draining,
        Err(silence) => *silence == Silence::Ended,
    };
    if answers.iter().any(|(_, answer)| is_stopping(answer)) {
        reasons.push("the broker is stopping".to_owned());
        return Verdict { word: "ready", reasons };
    }
    for (shard, answer) in answers {
        match answer {
            Ok(status) => reasons.extend(find_obstacle(*shard, status)),
            Err(_) => reasons.push(silence(*shard)),
        }
    }
    let is_accepting = answers.iter().any(|(_, answer)| answer.as_ref().is_ok_and(|status| status.is_accepting));
    if reasons.is_empty() && !is_accepting {
        reasons.push("the broker is starting: it does not accept connections yet".to_owned());
    }
    Verdict { word: "ready", reasons }
}

fn find_obstacle(shard: ShardIndex, status: &ShardStatus) -> Option<String> {
    let ShardStatus { is_open, recovered_count, log_count, failure, .. } = status;
    if !is_open {
        return Some(format!("shard {shard} is starting: it reads its journal"));
    }
    if let Some(failure) = failure {
        return Some(format!("shard {shard} is offline: {failure}"));
    }
    (recovered_count < log_count)
        .then(|| format!("shard {shard} is recovering: {recovered_count} of {log_count} logs are done"))
}

fn silence(shard: ShardIndex) -> String {
    format!("shard {shard} has not answered for {} s", ANSWER_TIME_MAX.as_secs())
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_good() {
            return writeln!(formatter, "{}", self.word);
        }
        writeln!(formatter, "not {}", self.word)?;
        self.reasons.iter().try_for_each(|reason| writeln!(formatter, "{reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ShardStatus {
        let (stage, failure) = (Stage::Running, None);
        ShardStatus { stage, is_open: true, recovered_count: 5, log_count: 5, failure, is_accepting: true }
    }

    fn two(second: ShardAnswer) -> Vec<(ShardIndex, ShardAnswer)> {
        vec![(ShardIndex::FIRST, Ok(good())), (ShardIndex::new(1), second)]
    }

    #[test]
    fn a_broker_is_ready_when_every_shard_is() {
        let ready = judge_ready(&two(Ok(ShardStatus { is_accepting: false, ..good() })));
        assert_eq!((ready.is_good(), ready.to_string().as_str()), (true, "ready\n"));
    }

    #[test]
    fn each_obstacle_is_named() {
        let recovering = ShardStatus { recovered_count: 2, ..good() };
        let cases: [(ShardAnswer, &str); 7] = [
            (Err(Silence::TooLong), "shard 1 has not answered for 2 s"),
            (Err(Silence::Ended), "the broker is stopping"),
            (Ok(ShardStatus { stage: Stage::Draining, ..good() }), "the broker is stopping"),
            (Ok(ShardStatus { stage: Stage::Closing, ..recovering.clone() }), "the broker is stopping"),
            (Ok(ShardStatus { is_open: false, ..good() }), "shard 1 is starting: it reads its journal"),
            (Ok(recovering), "shard 1 is recovering: 2 of 5 logs are done"),
            (Ok(ShardStatus { failure: Some("no flush".to_owned()), ..good() }), "shard 1 is offline: no flush"),
        ];
        for (answer, reason) in cases {
            let verdict = judge_ready(&two(answer));
            assert_eq!((verdict.is_good(), verdict.to_string()), (false, format!("not ready\n{reason}\n")));
        }
    }

    #[test]
    fn nobody_is_ready_before_connections_are_accepted() {
        let verdict = judge_ready(&[(ShardIndex::FIRST, Ok(ShardStatus { is_accepting: false, ..good() }))]);
        assert_eq!(verdict.to_string(), "not ready\nthe broker is starting: it does not accept connections yet\n");
    }

    #[test]
    fn only_silence_is_death() {
        let alive = |answer| judge_alive(&two(answer)).to_string();
        assert_eq!(alive(Ok(ShardStatus { failure: Some("x".to_owned()), is_open: false, ..good() })), "alive\n");
        assert_eq!(alive(Err(Silence::Ended)), "alive\n");
        assert_eq!(alive(Err(Silence::TooLong)), "not alive\nshard 1 has not answered for 2 s\n");
    }
}

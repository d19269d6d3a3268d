//! Turns the names in schemas and tables into Rust names.

/// `ReplicaId` and `replicaId` become `replica_id`; a digit does not start a word.
pub(crate) fn snake(name: &str) -> String {
    let mut text = String::new();
    let mut previous_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && previous_lower {
            text.push('_');
        }
        previous_lower = !character.is_ascii_uppercase();
        text.push(character.to_ascii_lowercase());
    }
    text
}

/// A field's Rust name: [`snake`], raw where it is a keyword.
pub(crate) fn field(name: &str) -> String {
    let name = snake(name);
    match name.as_str() {
        "type" | "match" | "ref" | "mod" | "where" | "use" | "final" => format!("r#{name}"),
        _ => name,
    }
}

/// `NOT_LEADER_OR_FOLLOWER` becomes `NotLeaderOrFollower`.
pub(crate) fn camel(name: &str) -> String {
    let mut text = String::new();
    for word in name.split('_') {
        let (first, rest) = word.split_at(usize::from(!word.is_empty()));
        text.push_str(first);
        text.push_str(&rest.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{camel, field, snake};

    #[test]
    fn names_become_rust_names() {
        assert_eq!(snake("ReplicaId"), "replica_id");
        assert_eq!(snake("timeoutMs"), "timeout_ms");
        assert_eq!(snake("V3AndBelowTopics"), "v3_and_below_topics");
        assert_eq!(field("Match"), "r#match");
        assert_eq!(camel("NOT_LEADER_OR_FOLLOWER"), "NotLeaderOrFollower");
    }
}

//! What kind of value a configuration key has, in Kafka's words.

/// What kind of value a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 16 bits.
    Short,
    /// A whole number of 64 bits.
    Long,
    /// A number that need not be whole.
    Double,
    /// Texts, comma separated.
    List,
    /// The name of a class of Java's.
    Class,
    /// Text that nobody is told.
    Password,
}

impl ValueType {
    /// What is wrong with `text` as a value of this kind, as far as the kind says.
    pub fn check(self, text: &str) -> Result<(), &'static str> {
        let text = text.trim();
        let (is_legal, expected) = match self {
            Self::Boolean => {
                (["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)), "`true` or `false`")
            }
            Self::Int => (text.parse::<i32>().is_ok(), "a whole number of 32 bits"),
            Self::Short => (text.parse::<i16>().is_ok(), "a whole number of 16 bits"),
            Self::Long => (text.parse::<i64>().is_ok(), "a whole number of 64 bits"),
            Self::Double => (text.parse::<f64>().is_ok(), "a number"),
            Self::String | Self::List | Self::Class | Self::Password => (true, ""),
        };
        if is_legal { Ok(()) } else { Err(expected) }
    }
}

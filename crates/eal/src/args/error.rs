//! What can be wrong with a command line.

/// Where application arguments belong; ends the messages about arguments nobody knows.
const BEHIND: &str = "arguments of the application stand behind `--`";

/// What is wrong with the arguments, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// No option has this name.
    #[error("unknown argument `{argument}`; {}{BEHIND}", did_you_mean(.nearest.as_deref()))]
    Unknown {
        /// As it was typed.
        argument: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// A word that no option takes.
    #[error("`{word}` belongs to no option; remove it, or quote a value with spaces ({BEHIND})")]
    Stray {
        /// As it was typed.
        word: String,
    },
    /// An option at the end, or before another option, that needs a value.
    #[error("`{option}` needs a value; write `{option}{}{wanted}`", glue(.option))]
    MissingValue {
        /// As it was typed.
        option: String,
        /// What the value is, in capitals.
        wanted: &'static str,
    },
    /// A value for an option that takes none.
    #[error("`{option}` takes no value; remove `={value}`")]
    UnexpectedValue {
        /// As it was typed.
        option: String,
        /// What follows the `=`.
        value: String,
    },
    /// A value that the option cannot take.
    #[error("`{option}` cannot be `{value}`: {why}")]
    Invalid {
        /// As it was typed.
        option: String,
        /// As it was typed.
        value: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// An option that has one value was given twice.
    #[error("`{option}` is given twice, as `{first}` and as `{second}`; give it once")]
    Repeated {
        /// As it was typed the second time.
        option: String,
        /// The first value.
        first: String,
        /// The second value.
        second: String,
    },
    /// A device was named twice.
    #[error("`{option}` names the device `{device}` twice; {remedy}")]
    RepeatedDevice {
        /// As it was typed.
        option: String,
        /// The name of the device: the value up to its first comma.
        device: String,
        /// What to do about it.
        remedy: String,
    },
    /// Two options that contradict each other.
    #[error("`{first}` and `{second}` exclude each other; {remedy}")]
    Conflict {
        /// The earlier one, as it was typed.
        first: String,
        /// The other one.
        second: String,
        /// What to do about it.
        remedy: String,
    },
}

/// The question, or nothing.
fn did_you_mean(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!("did you mean `{name}`? "))
        .unwrap_or_default()
}

/// What stands between an option and its value.
fn glue(option: &str) -> &'static str {
    if option.starts_with("--") { "=" } else { " " }
}

//! Words of a command line behind `--`, read one option at a time.
//!
//! Whatever is wrong becomes one sentence that names the argument.

/// Wrong arguments: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A word of a command line.
#[derive(Debug)]
pub(crate) enum Word<'a> {
    /// An option, and the value that is glued to it: `-n2`, `--ring-size=64`.
    Key(String, Option<&'a str>),
    /// Anything else.
    Plain(&'a str),
}

/// The words of a command line, taken one option at a time.
pub(crate) struct Words<'a> {
    rest: std::slice::Iter<'a, String>,
    /// Options seen: each may stand once.
    seen: Vec<String>,
    /// Options that have two names: the short one and the long one.
    names: &'static [(&'static str, &'static str)],
}

impl<'a> Words<'a> {
    pub(crate) fn new(words: &'a [String]) -> Self {
        Self {
            rest: words.iter(),
            seen: Vec::new(),
            names: &[],
        }
    }

    /// The same where these options have two names.
    pub(crate) fn with_names(self, names: &'static [(&'static str, &'static str)]) -> Self {
        Self { names, ..self }
    }

    /// The next option, and the value that is glued to it: `-n2`, `--ring-size=64`.
    pub(crate) fn next_key(&mut self) -> Result<Option<(String, Option<&'a str>)>, Usage> {
        match self.next_word()? {
            None => Ok(None),
            Some(Word::Key(key, glued)) => Ok(Some((key, glued))),
            Some(Word::Plain(word)) => Err(Usage(format!(
                "{word:?} is not an option; values stand behind their option, as in `-n 2`"
            ))),
        }
    }

    /// The next option, or a word that is none.
    pub(crate) fn next_word(&mut self) -> Result<Option<Word<'a>>, Usage> {
        let Some(word) = self.rest.next() else {
            return Ok(None);
        };
        let (key, glued) = if word.starts_with("--") {
            word.split_once('=')
                .map_or((word.as_str(), None), |(key, value)| (key, Some(value)))
        } else {
            match word.char_indices().nth(2) {
                _ if !word.starts_with('-') || word.len() == 1 => {
                    return Ok(Some(Word::Plain(word)));
                }
                Some((at, _)) => (&word[..at], Some(&word[at..])),
                None => (word.as_str(), None),
            }
        };
        let both = self.names.iter().find(|(short, _)| *short == key);
        let name = both.map_or(key, |(_, long)| long);
        if self.seen.iter().any(|seen| seen == name) {
            return Err(Usage(format!("{key} is given twice; give it once")));
        }
        self.seen.push(name.to_owned());
        Ok(Some(Word::Key(key.to_owned(), glued)))
    }

    pub(crate) fn value(&mut self, key: &str, glued: Option<&str>) -> Result<String, Usage> {
        if let Some(value) = glued {
            return Ok(value.to_owned());
        }
        let value = self.rest.next().filter(|value| !value.is_empty());
        value
            .cloned()
            .ok_or_else(|| Usage(format!("{key} wants a value behind it")))
    }
}

pub(crate) fn flag(key: &str, glued: Option<&str>) -> Result<bool, Usage> {
    match glued {
        None => Ok(true),
        Some(value) => Err(Usage(format!("{key} takes no value, but has {value:?}"))),
    }
}

pub(crate) fn choice<T: Copy>(key: &str, text: &str, choices: &[(&str, T)]) -> Result<T, Usage> {
    let found = choices
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        Usage(format!("{key} {text}: takes one of {}", names.join(", ")))
    })
}

pub(crate) fn unknown(key: &str, known: &[&str]) -> Usage {
    Usage(format!(
        "unknown option {key}; there are {}",
        known.join(", ")
    ))
}

//! Words of a command line behind `--`, read one option at a time.
//!
//! Whatever is wrong becomes one sentence that names the argument.

/// Wrong arguments: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The words of a command line, taken one option at a time.
pub(crate) struct Words<'a> {
    rest: std::slice::Iter<'a, String>,
    /// Options seen: each may stand once.
    seen: Vec<String>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(words: &'a [String]) -> Self {
        Self {
            rest: words.iter(),
            seen: Vec::new(),
        }
    }

    /// The next option, and the value that is glued to it: `-n2`, `--ring-size=64`.
    pub(crate) fn next_key(&mut self) -> Result<Option<(String, Option<&'a str>)>, Usage> {
        let option = self.next_option()?;
        if let Some((key, _)) = &option {
            if self.seen.contains(key) {
                return Err(Usage(format!("{key} is given twice; give it once")));
            }
            self.seen.push(key.clone());
        }
        Ok(option)
    }

    fn next_option(&mut self) -> Result<Option<(String, Option<&'a str>)>, Usage> {
        let Some(word) = self.rest.next() else {
            return Ok(None);
        };
        if word.starts_with("--") {
            let (key, value) = word
                .split_once('=')
                .map_or((word.as_str(), None), |(key, value)| (key, Some(value)));
            return Ok(Some((key.to_owned(), value)));
        }
        match word.char_indices().nth(2) {
            _ if !word.starts_with('-') || word.len() == 1 => Err(Usage(format!(
                "{word:?} is not an option; values stand behind their option, as in `-n 2`"
            ))),
            Some((at, _)) => Ok(Some((word[..at].to_owned(), Some(&word[at..])))),
            None => Ok(Some((word.clone(), None))),
        }
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

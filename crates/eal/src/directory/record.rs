//! The text that says where the files of a region are.

use std::path::PathBuf;

/// Where the files of a region are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) control: PathBuf,
    pub(crate) data: PathBuf,
}

impl Record {
    /// The first line, with the version of those that follow.
    const TITLE: &str = "forebay region 1";

    /// As it is written.
    pub(super) fn to_text(&self) -> String {
        format!(
            "{}\ncontrol {}\ndata {}\n",
            Self::TITLE,
            self.control.display(),
            self.data.display()
        )
    }

    /// As it was read; `None` if it does not name two files.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = core::str::from_utf8(text).ok()?.lines();
        if lines.next() != Some(Self::TITLE) {
            return None;
        }
        let mut path = |key: &str| {
            Some(PathBuf::from(lines.next()?.strip_prefix(key)?)).filter(|path| path.is_absolute())
        };
        Some(Self {
            control: path("control ")?,
            data: path("data ")?,
        })
    }
}

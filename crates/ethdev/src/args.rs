//! What a user writes to name a port: `net_af_packet0,iface=veth0,qpairs=2`.
//!
//! ```text
//! port   = driver number *("," key "=" value)
//! number = *DIGIT                       none is 0 for the number, and stays absent in the name
//! value  = text without "," | "[" text with "," "]" | value "," DIGIT text without "=" and ","
//! ```
//!
//! A flag may leave its value out: `infinite_rx` is `infinite_rx=1`. What starts with a digit is no flag: it goes on with the
//! list before it, as in `match=tcp:80,443`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::driver::Driver;
use crate::error::Error;
use crate::proxy;
use crate::rss::RssKey;
use eal::nearest;

/// Longest text of a port's arguments: what its record in the region holds.
pub const ARGS_LEN_MAX: usize = 256;
/// Longest name of a port: what its record in the region holds.
pub const NAME_LEN_MAX: usize = 32;

/// A key that a driver takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As the user types it.
    pub name: &'static str,
    /// Whether it may stand more than once.
    pub repeats: bool,
    /// Whether its value may be a list with commas.
    pub lists: bool,
}

impl Key {
    /// A key that stands once at most.
    #[must_use]
    pub const fn once(name: &'static str) -> Self {
        Self {
            name,
            repeats: false,
            lists: false,
        }
    }

    /// A key that may be repeated; the order of its values counts.
    #[must_use]
    pub const fn many(name: &'static str) -> Self {
        Self {
            name,
            repeats: true,
            lists: false,
        }
    }

    /// A key that stands once at most, whose value may be a list: `match=tcp:80,443`.
    #[must_use]
    pub const fn list(name: &'static str) -> Self {
        Self {
            name,
            repeats: false,
            lists: true,
        }
    }
}

/// What a port's queues are to do, chosen by the application before start.
#[derive(Debug, Clone, Default)]
pub struct PortConfig {
    /// The largest packet; `None` leaves the device as it is.
    pub mtu: Option<u16>,
    /// Whether frames for other addresses are received; `None` leaves the device as it is.
    pub promiscuous: Option<bool>,
    /// The key that spreads flows.
    pub rss_key: RssKey,
}

/// A port as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevArgs {
    name: String,
    driver_len: usize,
    pairs: Vec<(String, String)>,
}

impl DevArgs {
    /// Takes the text of one `--vdev` apart. Whether driver and keys exist is for [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// [`Error::BadVdev`] when the text does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadVdev {
            text: printable(text),
            reason,
        };
        if let Some(odd) = text.chars().find(|c| c.is_control()) {
            return Err(bad(format!("it contains the control character {odd:?}")));
        }
        let mut fields = split(text)
            .ok_or_else(|| bad("a [ is not closed".into()))?
            .into_iter();
        let name = fields.next().unwrap_or_default().trim();
        if name.is_empty() {
            return Err(bad("the driver is missing".into()));
        }
        if name.contains('=') {
            return Err(bad(format!(
                "it starts with {name:?} where the driver should stand"
            )));
        }
        if name.len() > NAME_LEN_MAX {
            return Err(bad(format!(
                "the name has {} bytes, a port's name has {NAME_LEN_MAX} at most",
                name.len()
            )));
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        // Whether the field before had a value, which this one may go on with.
        let mut listing = false;
        for field in fields {
            let goes_on = field.trim().starts_with(|c: char| c.is_ascii_digit());
            if let (Some((_, value)), true, true) = (pairs.last_mut(), listing, goes_on)
                && !field.contains('=')
            {
                value.push(',');
                value.push_str(field.trim());
                continue;
            }
            listing = field.contains('=');
            let (key, value) = field.split_once('=').unwrap_or((field, "1"));
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() {
                return Err(bad(format!("{field:?} has no key")));
            }
            if value.is_empty() {
                return Err(bad(format!("{key}= has no value")));
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
        let args = Self {
            driver_len: name.trim_end_matches(|c: char| c.is_ascii_digit()).len(),
            name: name.to_owned(),
            pairs,
        };
        let len = args.tail().len();
        if len > ARGS_LEN_MAX {
            return Err(bad(format!(
                "its keys have {len} bytes, {ARGS_LEN_MAX} fit"
            )));
        }
        Ok(args)
    }

    /// The port's name: `net_af_packet0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part of the name that says the driver: `net_af_packet`.
    #[must_use]
    pub fn driver_name(&self) -> &str {
        &self.name[..self.driver_len]
    }

    /// The keys and values as text, without the name: what the port's record keeps.
    #[must_use]
    pub fn tail(&self) -> String {
        self.pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Finds the driver and compares the keys with those that it takes.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownDriver`], [`Error::UnknownKey`] and [`Error::RepeatedKey`], with the nearest name;
    /// [`Error::BadValue`] for a list where none may be.
    pub fn check(
        &self,
        drivers: &'static [&'static dyn Driver],
    ) -> Result<&'static dyn Driver, Error> {
        let names = || drivers.iter().map(|driver| driver.name());
        let driver = drivers
            .iter()
            .copied()
            .find(|driver| driver.name() == self.driver_name())
            .ok_or_else(|| Error::UnknownDriver {
                device: self.name.clone(),
                name: self.driver_name().to_owned(),
                hint: did_you_mean(self.driver_name(), names()),
                known: list(names()),
            })?;
        let common = &const { Key::once(proxy::KEY) };
        let keys = || driver.keys().iter().chain([common]);
        for (place, (key, value)) in self.pairs.iter().enumerate() {
            let names = || keys().map(|key| key.name);
            let known =
                keys()
                    .find(|known| known.name == key)
                    .ok_or_else(|| Error::UnknownKey {
                        device: self.name.clone(),
                        driver: driver.name(),
                        key: key.clone(),
                        hint: did_you_mean(key, names()),
                        known: list(names()),
                    })?;
            if !known.repeats
                && self.pairs[..place]
                    .iter()
                    .any(|(earlier, _)| earlier == key)
            {
                return Err(Error::RepeatedKey {
                    device: self.name.clone(),
                    key: key.clone(),
                });
            }
            if !known.lists && split(value).is_some_and(|pieces| pieces.len() > 1) {
                return Err(Error::BadValue {
                    device: self.name.clone(),
                    key: key.clone(),
                    value: value.clone(),
                    reason: "it takes one value; write KEY=VALUE behind the comma".into(),
                });
            }
        }
        proxy::check(self)?;
        Ok(driver)
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a key that may be repeated, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a key that the driver cannot do without.
    ///
    /// # Errors
    ///
    /// [`Error::MissingKey`] names it.
    pub fn required(&self, key: &'static str, driver: &dyn Driver) -> Result<&str, Error> {
        self.get(key).ok_or_else(|| Error::MissingKey {
            device: self.name.clone(),
            driver: driver.name(),
            key,
            usage: driver.usage(),
        })
    }

    /// The number behind a key, if the key is there.
    ///
    /// # Errors
    ///
    /// [`Error::BadValue`] when it is no number or lies outside `range`.
    pub fn number<T>(&self, key: &str, range: RangeInclusive<T>) -> Result<Option<T>, Error>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.parse::<T>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.bad_value(
                key,
                format!("not a number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// Whether a flag is set; absent is `false`.
    ///
    /// # Errors
    ///
    /// [`Error::BadValue`] when it is neither `0` nor `1`.
    pub fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.get(key) {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(self.bad_value(key, "not 0 or 1")),
        }
    }

    /// The error for a value that makes no sense; `reason` ends with what would.
    #[must_use]
    pub fn bad_value(&self, key: &str, reason: impl Into<String>) -> Error {
        let value = self.get(key).unwrap_or_default().to_owned();
        Error::BadValue {
            device: self.name.clone(),
            key: key.to_owned(),
            value,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for DevArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.pairs
            .iter()
            .try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

/// `, did you mean NAME?` for the nearest of `known`, or nothing if none is near.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

/// The fields between the commas outside of brackets; `None` when a bracket is left open.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut fields, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                fields.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&text[start..]);
    (depth == 0).then_some(fields)
}

/// `a, b, c`
pub(crate) fn list(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name.as_ref());
    }
    if text.is_empty() { "none".into() } else { text }
}

/// What a user wrote, fit for one line of an error.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::drivers::DRIVERS;

    fn checked(text: &str) -> String {
        DevArgs::parse(text)
            .and_then(|args| args.check(DRIVERS))
            .map_or_else(|e| e.to_string(), |driver| driver.name().to_owned())
    }

    #[test]
    fn port_is_taken_apart() {
        let args = DevArgs::parse("net_pcap1,rx_pcap=a.pcap,rx_pcap=b.pcap,infinite_rx").unwrap();
        assert_eq!((args.name(), args.driver_name()), ("net_pcap1", "net_pcap"));
        assert_eq!(
            args.all("rx_pcap").collect::<Vec<_>>(),
            ["a.pcap", "b.pcap"]
        );
        assert!(args.flag("infinite_rx").unwrap());
        assert!(!args.flag("absent").unwrap());
        assert_eq!(args.tail(), "rx_pcap=a.pcap,rx_pcap=b.pcap,infinite_rx=1");
    }

    #[test]
    fn comma_in_brackets_belongs_to_the_value() {
        let args = DevArgs::parse("net_null0,size=[1,2],copy=1").unwrap();
        assert_eq!(
            (args.get("size"), args.get("copy")),
            (Some("[1,2]"), Some("1"))
        );
    }

    #[test]
    fn number_behind_a_comma_goes_on_with_the_list() {
        let args = DevArgs::parse("net_null0,copy,size=tcp:80, 443;udp:53,5-9,no_rx=1").unwrap();
        assert_eq!(args.get("size"), Some("tcp:80,443;udp:53,5-9"));
        assert_eq!(
            (args.get("copy"), args.get("no_rx")),
            (Some("1"), Some("1"))
        );
        assert_eq!(DevArgs::parse(&args.to_string()).unwrap(), args);
        // There is no list: nothing before it has a value.
        assert_eq!(DevArgs::parse("net_null0,7").unwrap().tail(), "7=1");
        assert_eq!(
            DevArgs::parse("net_null0,copy,7").unwrap().tail(),
            "copy=1,7=1"
        );
    }

    #[test]
    fn list_is_refused_where_the_key_takes_one_value() {
        let error = checked("net_null0,size=64,65,copy=1");
        assert!(error.contains("size=64,65: it takes one value"), "{error}");
        // Commas in brackets are for the driver to read.
        assert_eq!(checked("net_null0,size=[64,65]"), "net_null");
    }

    #[test]
    fn malformed_port_names_what_is_wrong() {
        for (text, reason) in [
            ("", "the driver is missing"),
            (",size=1", "the driver is missing"),
            ("size=1", "where the driver should stand"),
            ("net_null0,", "has no key"),
            ("net_null0,=3", "has no key"),
            ("net_null0,size=", "size= has no value"),
            ("net_null0,size=[1,2", "[ is not closed"),
            ("net_null0,size=\u{1b}[2J", "control character"),
            ("net_a_name_that_is_much_longer_than_a_record", "32 at most"),
        ] {
            let error = DevArgs::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
            assert!(!error.contains('\u{1b}'));
        }
        assert!(DevArgs::parse(&format!("net_null0,size={}", "9".repeat(300))).is_err());
    }

    #[test]
    fn unknown_driver_or_key_is_told_with_the_nearest() {
        assert_eq!(checked("net_null0,size=64"), "net_null");
        let error = checked("net_nul0");
        assert!(
            error.contains("did you mean net_null?") && error.contains("net_pcap"),
            "{error}"
        );
        let error = checked("net_null0,sise=64");
        assert!(
            error.contains("no key \"sise\", did you mean size?") && error.contains("copy"),
            "{error}"
        );
        assert!(!checked("zzzzzzzzzzzzzz0").contains("did you mean"));
    }

    #[test]
    fn key_given_twice_is_refused_unless_it_repeats() {
        assert!(checked("net_null0,size=64,size=65").contains("given twice"));
        assert_eq!(checked("net_pcap0,tx_pcap=a,tx_pcap=b"), "net_pcap");
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let args = DevArgs::parse("net_null0,size=70000,copy=2").unwrap();
        let error = args
            .number::<u32>("size", 14..=9000)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("size=70000") && error.contains("14 to 9000"),
            "{error}"
        );
        assert_eq!(args.number::<u32>("size", 14..=90000).unwrap(), Some(70000));
        assert!(args.flag("copy").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,80}|[a-z_0-9=,\\[\\] ]{0,60}") {
            if let Ok(args) = DevArgs::parse(&text) {
                let again = DevArgs::parse(&args.to_string()).unwrap();
                prop_assert_eq!(again, args);
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            driver in "[a-z_]{1,12}", number in 0_u8..100,
            pairs in proptest::collection::vec(("[a-z_]{1,8}", "[a-zA-Z0-9./:-]{1,8}"), 0..6),
        ) {
            let mut text = format!("{driver}{number}");
            for (key, value) in &pairs {
                text += &format!(",{key}={value}");
            }
            let args = DevArgs::parse(&text).unwrap();
            prop_assert_eq!(args.to_string(), text);
            prop_assert_eq!(args.driver_name(), driver);
        }
    }
}

//! What a user may say of a port, named as DPDK's `net_tap` names it.

use std::path::PathBuf;

use crate::args::{DevArgs, Key};
use crate::driver::PortId;
use crate::drivers::netdev::NAME_LEN_MAX;
use crate::error::Error;
use crate::mac::MacAddress;

/// What `--help` shows.
pub(super) const USAGE: &str =
    "net_tap0[,iface=NAME][,mac=MAC|fixed][,qpairs=N][,persist=0|1][,netns=PATH]";

/// The keys above.
pub(super) const KEYS: [Key; 5] = [
    Key::once("iface"),
    Key::once("mac"),
    Key::once("qpairs"),
    Key::once("persist"),
    Key::once("netns"),
];

/// The keys of a port, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// The kernel interface, made if it is not there.
    pub interface: String,
    /// Its address, if that is not the kernel's choice.
    pub mac: Option<MacAddress>,
    /// Most RX queues, if that was said.
    pub queue_pairs: Option<u16>,
    /// Whether the interface stays when nobody has a descriptor of it.
    pub persist: bool,
    /// The network namespace in which it lies, if that is not the primary's.
    pub namespace: Option<PathBuf>,
}

impl Options {
    /// Checks the values.
    pub(super) fn parse(args: &DevArgs, port: PortId, queues_max: u16) -> Result<Self, Error> {
        let number = args.name().strip_prefix(args.driver_name());
        let interface = match args.get("iface") {
            Some(name) => name.to_owned(),
            // As in DPDK, and the next primary means the same one.
            None => format!("dtap{}", number.filter(|n| !n.is_empty()).unwrap_or("0")),
        };
        let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || !c.is_ascii();
        if interface.len() > NAME_LEN_MAX {
            return Err(args.bad_value(
                "iface",
                format!(
                    "{} bytes long; the name of an interface has 1 to {NAME_LEN_MAX}",
                    interface.len()
                ),
            ));
        }
        if interface.contains(odd) || [".", ".."].contains(&interface.as_str()) {
            return Err(args.bad_value(
                "iface",
                "no name for an interface; take letters, digits, - and _",
            ));
        }
        let mac = match args.get("mac") {
            None => None,
            Some("fixed") => Some(MacAddress::local(b't', port.0)),
            Some(text) => Some(
                text.parse::<MacAddress>()
                    .map_err(|bad| args.bad_value("mac", format!("{bad}, or fixed")))?,
            ),
        };
        if mac.is_some_and(|mac| mac.0[0] & 1 == 1 || mac.0 == [0; 6]) {
            return Err(args.bad_value(
                "mac",
                "the address of a group or of nobody; take one with an even first octet",
            ));
        }
        Ok(Self {
            interface,
            mac,
            queue_pairs: args.number("qpairs", 1..=queues_max)?,
            persist: args.flag("persist")?,
            namespace: args.get("netns").map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        let args = DevArgs::parse(text).unwrap();
        Options::parse(&args, PortId(3), 64).map_err(|error| error.to_string())
    }

    #[test]
    fn name_that_is_left_out_follows_from_the_ports() {
        assert_eq!(parse("net_tap").unwrap().interface, "dtap0");
        assert_eq!(parse("net_tap7").unwrap().interface, "dtap7");
        let options = parse("net_tap0,iface=fb0,mac=fixed,persist=1").unwrap();
        assert_eq!(options.interface, "fb0");
        assert_eq!(options.mac, Some(MacAddress::local(b't', 3)));
        assert!(options.persist);
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        for (key, reason) in [
            ("iface=0123456789abcdef", "16 bytes long"),
            ("iface=tap%d", "letters, digits"),
            ("iface=a/b", "letters, digits"),
            ("iface=..", "letters, digits"),
            ("mac=here", "02:00:00:00:00:01, or fixed"),
            ("mac=01:00:00:00:00:01", "even first octet"),
            ("qpairs=65", "from 1 to 64"),
            ("qpairs=0", "from 1 to 64"),
            ("persist=2", "not 0 or 1"),
        ] {
            let error = parse(&format!("net_tap0,{key}")).unwrap_err();
            assert!(error.contains(reason), "{key}: {error}");
        }
    }
}

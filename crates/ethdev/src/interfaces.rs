//! The kernel's interfaces: what a user may have meant, and what to write for it.

use std::fs;
use std::path::Path;

use crate::args::list;
use crate::error::Error;

/// The interfaces in the network namespace of this thread, loopback left out. Names only; nothing is opened.
#[must_use]
pub fn interfaces() -> Vec<String> {
    // /sys shows the namespace of its mount; /proc that of the thread which asks.
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    names(&table)
}

/// The first column of `/proc/net/dev`, after two lines of titles.
fn names(table: &str) -> Vec<String> {
    let rows = table
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'));
    rows.map(|(name, _)| name.trim().to_owned())
        .filter(|name| name != "lo" && !name.is_empty())
        .collect()
}

/// One line for a user who named no port: the interfaces there are, and what to write for each.
#[must_use]
pub fn interfaces_hint() -> String {
    hint(&interfaces())
}

fn hint(interfaces: &[String]) -> String {
    if interfaces.is_empty() {
        return "no port is named, and there is no interface here but lo; write --vdev=net_null0, --vdev=net_ring0 or --vdev=net_pcap0,rx_pcap=FILE".into();
    }
    let written = interfaces
        .iter()
        .enumerate()
        .map(|(number, name)| format!("--vdev=net_af_packet{number},iface={name}"));
    let written: Vec<String> = written.collect();
    format!(
        "no port is named; interfaces here are {}; write {}",
        list(interfaces.iter()),
        written.join(" ")
    )
}

/// Why the PCI device behind `--allow` is not opened, and what to write instead.
pub(crate) fn refuse_pci(address: &str) -> Error {
    refuse_pci_below(Path::new("/sys/bus/pci/devices"), address)
}

fn refuse_pci_below(devices: &Path, written: &str) -> Error {
    let error = |reason: String| Error::Allow {
        address: written.to_owned(),
        reason,
    };
    let address = written.split(',').next().unwrap_or_default();
    let Some(full) = full_address(address) else {
        return error("not a PCI address; write it as 0000:3b:00.0, or name an interface with --vdev=net_af_packet0,iface=NAME".into());
    };
    if !devices.join(&full).exists() {
        return error("there is no such PCI device; `lspci -D` lists them".into());
    }
    let behind = fs::read_dir(devices.join(&full).join("net"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = behind
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    match names.first() {
        Some(name) => {
            error(format!("ports by PCI address come with a later release; its interface is {name}: write --vdev=net_af_packet0,iface={name}"))
        }
        None => error("the kernel has no network interface for it; bind it to its kernel driver again (`driverctl unset-override`)".into()),
    }
}

/// `3b:00.0` or `0000:3b:00.0` as the latter; `None` for anything else, so that it makes a safe file name.
fn full_address(address: &str) -> Option<String> {
    let full = if address.matches(':').count() == 1 {
        format!("0000:{address}")
    } else {
        address.to_owned()
    };
    let (bus, function) = full.rsplit_once('.')?;
    let parts: Vec<&str> = bus.split(':').collect();
    let hex =
        |text: &str, len: usize| text.len() == len && text.chars().all(|c| c.is_ascii_hexdigit());
    let [domain, bus, device] = parts[..] else {
        return None;
    };
    (hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1))
        .then(|| full.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Inter-|   Receive  |  Transmit\n face |bytes    packets\n    lo: 1 2\n  eth0: 1 2\nveth1:1 2\n";

    #[test]
    fn hint_names_each_interface_and_what_to_write() {
        assert_eq!(names(TABLE), ["eth0", "veth1"]);
        let hint = hint(&names(TABLE));
        assert!(
            hint.contains("eth0, veth1")
                && hint
                    .contains("--vdev=net_af_packet0,iface=eth0 --vdev=net_af_packet1,iface=veth1"),
            "{hint}"
        );
        assert!(!hint.contains('\n') && !interfaces_hint().contains('\n'));
    }

    #[test]
    fn hint_without_interfaces_offers_ports_that_need_none() {
        assert!(hint(&names("")).contains("--vdev=net_null0"));
    }

    #[test]
    fn pci_device_leads_to_the_vdev_of_its_interface() {
        let devices = tempfile::tempdir().unwrap();
        fs::create_dir_all(devices.path().join("0000:3b:00.0/net/eth7")).unwrap();
        fs::create_dir_all(devices.path().join("0000:3b:00.1")).unwrap();
        for (written, reason) in [
            ("0000:3b:00.0", "--vdev=net_af_packet0,iface=eth7"),
            ("3B:00.0,key=1", "--vdev=net_af_packet0,iface=eth7"),
            ("3b:00.1", "no network interface"),
            ("3b:00.2", "no such PCI device"),
            ("../../etc", "not a PCI address"),
            ("", "not a PCI address"),
        ] {
            let error = refuse_pci_below(devices.path(), written);
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.is_usage());
        }
    }
}

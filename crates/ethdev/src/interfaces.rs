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

/// All ports that the arguments name: what `--allow` does, as the `--vdev` of the interfaces behind it, then what `--vdev` does.
///
/// # Errors
///
/// [`Error::Allow`] says what is wrong with a device, and what to write instead.
pub fn vdevs(args: &eal::EalArgs) -> Result<Vec<String>, Error> {
    vdevs_below(Path::new("/sys/bus/pci/devices"), &args.allow, &args.vdevs)
}

fn vdevs_below(devices: &Path, allowed: &[String], vdevs: &[String]) -> Result<Vec<String>, Error> {
    let mut all: Vec<String> = Vec::with_capacity(allowed.len() + vdevs.len());
    for written in allowed {
        let interface = interface_below(devices, written)?;
        let is_taken = |name: &str| {
            let named = |vdev: &String| vdev.split(',').next() == Some(name);
            all.iter().chain(vdevs).any(named)
        };
        let name = (0_usize..)
            .map(|number| format!("net_af_xdp{number}"))
            .find(|name| !is_taken(name))
            .expect("numbers do not end");
        // What stands behind the address are keys of the port.
        let keys = written.split_once(',').map(|(_, keys)| format!(",{keys}"));
        all.push(format!(
            "{name},iface={interface}{}",
            keys.unwrap_or_default()
        ));
    }
    all.extend_from_slice(vdevs);
    Ok(all)
}

/// The kernel interface behind a PCI device.
fn interface_below(devices: &Path, written: &str) -> Result<String, Error> {
    let error = |reason: String| Error::Allow {
        address: written.to_owned(),
        reason,
    };
    let address = written.split(',').next().unwrap_or_default();
    let full = full_address(address).ok_or_else(|| {
        error("not a PCI address; write it as 0000:3b:00.0, or name an interface with --vdev=net_af_xdp0,iface=NAME".into())
    })?;
    if !devices.join(&full).exists() {
        return Err(error(
            "there is no such PCI device; `lspci -D` lists them".into(),
        ));
    }
    let behind = fs::read_dir(devices.join(&full).join("net"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = behind
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    match &names[..] {
        [name] => Ok(name.clone()),
        [] => Err(error("the kernel has no network interface for it; bind it to its kernel driver again (`driverctl unset-override`)".into())),
        several => Err(error(format!(
            "it has the interfaces {}; name one: --vdev=net_af_xdp0,iface={}",
            list(several.iter()),
            several[0]
        ))),
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
        for path in [
            "3b:00.0/net/eth7",
            "3b:00.1",
            "3b:00.3/net/eth8",
            "3b:00.3/net/eth9",
        ] {
            fs::create_dir_all(devices.path().join(format!("0000:{path}"))).unwrap();
        }
        let of = |allowed: &[&str], vdevs: &[&str]| {
            let owned = |texts: &[&str]| -> Vec<String> {
                texts.iter().map(|text| (*text).to_owned()).collect()
            };
            vdevs_below(devices.path(), &owned(allowed), &owned(vdevs))
        };
        let both = of(
            &["0000:3b:00.0", "3B:00.0,match=tcp:80,443"],
            &["net_af_xdp0,iface=eth1"],
        );
        assert_eq!(
            both.unwrap(),
            [
                "net_af_xdp1,iface=eth7",
                "net_af_xdp2,iface=eth7,match=tcp:80,443",
                "net_af_xdp0,iface=eth1"
            ]
        );
        for (written, reason) in [
            ("3b:00.1", "no network interface"),
            ("3b:00.2", "no such PCI device"),
            (
                "3b:00.3",
                "eth8, eth9; name one: --vdev=net_af_xdp0,iface=eth8",
            ),
            ("../../etc", "not a PCI address"),
            ("", "not a PCI address"),
        ] {
            let error = of(&[written], &[]).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.is_usage());
        }
    }
}

use std::os::fd::AsFd;

use super::*;
use crate::args::DevArgs;
use crate::drivers::af_xdp::bpf::tests::may_load;
use crate::drivers::af_xdp::bpf::{self, Load};

fn filter(keys: &str) -> Filter {
    let args = DevArgs::parse(&format!("net_af_xdp0,{keys}")).unwrap();
    Filter::parse(&args).unwrap().unwrap()
}

/// One filter of each form.
const FILTERS: [&str; 17] = [
    "match=all",
    "match=tcp:80,443;udp:53",
    "match=tcp",
    "match=udp:5000-5099",
    "match=tcp:1-65535",
    "match=icmp",
    "match=icmp6",
    "match=tcp:80;icmp;icmp6",
    "addr=10.0.0.2",
    "addr=fd00::2",
    "addr=10.0.0.2;10.0.0.3;fd00::2;fe80::2",
    "addr=10.0.0.2,match=tcp:80",
    "addr=10.0.0.2,match=icmp6",
    "addr=fd00::2,match=udp:53,5000-5099",
    "addr=fd00::2,match=icmp",
    "addr=10.0.0.2;fd00::2,match=tcp:80;udp;icmp6",
    "addr=10.0.0.2;fd00::2,match=tcp:80;udp:53;icmp",
];

#[test]
fn every_filter_passes_the_verifier() {
    if !may_load() {
        return;
    }
    let xsks = bpf::create_xskmap(4).unwrap();
    let map = bpf::map_info(xsks.as_fd()).unwrap();
    // As long as a port's arguments may be.
    let ports: Vec<_> = (0..40).map(|n| (10 + 3 * n).to_string()).collect();
    let ports = format!("addr=10.0.0.2;fd00::2,match=tcp:{};udp:7", ports.join(","));
    let addresses: Vec<_> = (0..34).map(|n| format!("fd::{n:x}")).collect();
    let addresses = format!("match=udp:7;tcp:9,addr=1.1.1.1;{}", addresses.join(";"));
    for keys in FILTERS.into_iter().chain([&ports[..], &addresses]) {
        let program = assemble(&filter(keys), OnMatch::Redirect(xsks.as_fd()));
        for frags in [false, true] {
            let how = Load {
                frags,
                ..Load::default()
            };
            let loaded = bpf::load(&program, how).unwrap_or_else(|e| panic!("{keys}: {e}"));
            let info = bpf::program_info(loaded.as_fd()).unwrap();
            assert_eq!(info.maps, [map.id], "{keys}");
        }
    }
}

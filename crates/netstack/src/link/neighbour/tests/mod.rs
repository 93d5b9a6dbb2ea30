use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

mod cell;
mod entry;
mod flood;
mod model;
mod queue;
mod state;

const IF: InterfaceId = InterfaceId(0);
const OTHER: InterfaceId = InterfaceId(1);
const START: Instant = Instant::from_millis(1000);
const HIM: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HER: Mac = Mac([2, 0, 0, 0, 0, 2]);

const OURS: Purpose = Purpose::Ours;
const ANSWER: Purpose = Purpose::Answer;
const SOLICITED: Learned = Learned::Solicited { overriding: true };
const UNSOLICITED: Learned = Learned::Unsolicited { overriding: true };

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

fn v6(n: u128) -> IpAddr {
    Ipv6Addr::from_bits((0xfe80 << 112) + n).into()
}

fn ms(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Instant {
    ms(seconds * 1000)
}

fn neighbours() -> Neighbours<u32> {
    Neighbours::new(
        NeighbourConfig {
            waiting_max_each: 16,
            waiting_max: 256,
            ..NeighbourConfig::default()
        },
        7,
    )
}

fn small(entries_max: usize) -> Neighbours<u32> {
    let config = NeighbourConfig {
        entries_max,
        ..NeighbourConfig::default()
    };
    Neighbours::new(config, 7)
}

fn state<P>(table: &Neighbours<P>, address: IpAddr) -> Option<State> {
    table
        .iter()
        .find(|line| line.address == address)
        .map(|line| line.state)
}

fn solicit(address: IpAddr, mac: Option<Mac>, first: bool) -> Option<Ask> {
    Some(Ask::Solicit {
        interface: IF,
        address,
        mac,
        first,
    })
}

fn failed(address: IpAddr) -> Option<Ask> {
    Some(Ask::Failed {
        interface: IF,
        address,
    })
}

fn known(mac: Mac, until: Instant) -> Resolution {
    Resolution::Known { mac, until }
}

/// Asks for somebody who answers at once.
fn meet<P>(table: &mut Neighbours<P>, now: Instant, address: IpAddr, mac: Mac) {
    assert_eq!(table.resolve(now, IF, address, OURS), Resolution::Unknown);
    while table.poll(now).is_some() {}
    assert_eq!(
        table.learn(now, IF, address, mac, SOLICITED, false),
        Change::Resolved
    );
}

fn all_waiting<P>(table: &mut Neighbours<P>, address: IpAddr) -> Vec<P> {
    core::iter::from_fn(|| table.take_waiting(IF, address)).collect()
}

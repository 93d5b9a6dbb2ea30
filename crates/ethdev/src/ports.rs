//! All ports of the group, as this process sees them.

use std::sync::Arc;

use eal::ports::PORTS_MAX;
use eal::{Eal, ProcType, Region};

use crate::args::DevArgs;
use crate::driver::{Attach, Driver, PortId, Probe};
use crate::drivers::DRIVERS;
use crate::error::{Error, PortState};
use crate::exchange::Exchange;
use crate::interfaces;
use crate::port::{Place, Port, withdraw_left};
use crate::record::Record;
use crate::table::QueueTable;

/// All ports of the group. A clone is another handle on the same ports.
#[derive(Debug, Clone)]
pub struct Ports {
    ports: Arc<[Port]>,
}

impl Ports {
    /// The primary opens what `--allow` and `--vdev` name, in order; a secondary joins what the primary has opened.
    ///
    /// A port that a former primary started under the same arguments, and of which a living process drives a queue or kept the
    /// descriptors, is [adopted](Port::is_adopted): it goes on as it is.
    ///
    /// # Errors
    ///
    /// What is wrong with an argument, a privilege that is missing, a device that is not there; see [`Error`].
    pub fn probe(eal: &Eal) -> Result<Self, Error> {
        let vdevs = match eal.proc_type() {
            ProcType::Primary => interfaces::vdevs(eal.args())?,
            // It joins what the primary has.
            _ => Vec::new(),
        };
        Self::open(
            eal.region(),
            eal.proc_type(),
            &vdevs,
            Arc::new(eal.control()),
        )
    }

    /// As [`probe`](Self::probe), for who has no [`Eal`]: a test, or a program that hands descriptors on by its own means.
    ///
    /// # Errors
    ///
    /// As for [`probe`](Self::probe).
    pub fn open(
        region: &'static Region,
        role: ProcType,
        vdevs: &[String],
        exchange: Arc<dyn Exchange>,
    ) -> Result<Self, Error> {
        let ports = if role == ProcType::Primary {
            open_all(region, vdevs, &exchange)
        } else {
            join_all(region, &exchange)
        };
        Ok(Self {
            ports: ports?.into(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// Their numbers.
    pub fn ids(&self) -> impl Iterator<Item = PortId> {
        self.ports.iter().map(Port::id)
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Port> {
        self.ports.iter()
    }

    /// In the primary: gives back what the dead left in device queues that they drove, and tells how many frames that were. For
    /// the guard, after each death.
    pub fn reap(&self, lcore: &mbuf::Lcore) -> u32 {
        self.iter().map(|port| port.reap(lcore)).sum()
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// [`Error::NoPort`] says how many there are.
    pub fn port(&self, id: PortId) -> Result<&Port, Error> {
        self.ports.get(usize::from(id.0)).ok_or(Error::NoPort {
            port: id,
            count: self.count(),
        })
    }
}

impl<'a> IntoIterator for &'a Ports {
    type Item = &'a Port;
    type IntoIter = std::slice::Iter<'a, Port>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// All arguments checked, nothing opened.
fn check_all(vdevs: &[String]) -> Result<Vec<(DevArgs, &'static dyn Driver)>, Error> {
    let mut checked: Vec<(DevArgs, &'static dyn Driver)> = Vec::new();
    if vdevs.len() > PORTS_MAX {
        return Err(Error::TooManyPorts {
            asked: vdevs.len(),
            max: PORTS_MAX,
        });
    }
    for text in vdevs {
        let args = DevArgs::parse(text)?;
        let driver = args.check(DRIVERS)?;
        if checked
            .iter()
            .any(|(earlier, _)| earlier.name() == args.name())
        {
            return Err(Error::DuplicatePort {
                name: args.name().to_owned(),
            });
        }
        checked.push((args, driver));
    }
    Ok(checked)
}

/// The records of the group, by port.
fn records(region: &'static Region) -> impl Iterator<Item = (PortId, Record)> {
    (0..)
        .map(PortId)
        .zip(region.port_records().iter().map(Record))
}

fn open_all(
    region: &'static Region,
    vdevs: &[String],
    exchange: &Arc<dyn Exchange>,
) -> Result<Vec<Port>, Error> {
    let checked = check_all(vdevs)?;
    let all: Vec<DevArgs> = checked.iter().map(|(args, _)| args.clone()).collect();
    for (id, record) in records(region) {
        refuse_what_is_in_use(region, id, record, all.get(usize::from(id.0)))?;
    }
    let mut ports = Vec::with_capacity(checked.len());
    for ((id, record), (args, driver)) in records(region).zip(checked) {
        let cx = Probe {
            region,
            port: id,
            vdevs: &all,
        };
        let place = Place {
            id,
            region,
            record,
            exchange: Arc::clone(exchange),
        };
        ports.push(match Port::adopt(&place, &args, driver, &cx)? {
            Some(port) => port,
            None => {
                let device = driver.probe(&cx, &args)?;
                Port::announce(place, args, driver, device)?
            }
        });
    }
    for (id, record) in records(region).skip(ports.len()) {
        if record.state() != PortState::Absent {
            withdraw_left(&Place {
                id,
                region,
                record,
                exchange: Arc::clone(exchange),
            });
            record.set_state(PortState::Absent);
        }
    }
    Ok(ports)
}

/// A port that a former primary opened stays what it is as long as somebody uses it.
fn refuse_what_is_in_use(
    region: &'static Region,
    id: PortId,
    record: Record,
    ours: Option<&DevArgs>,
) -> Result<(), Error> {
    if record.state() == PortState::Absent {
        return Ok(());
    }
    let theirs = record.described();
    if ours.is_some_and(|ours| ours.to_string() == theirs) {
        return Ok(());
    }
    let table = QueueTable::lookup(region, id).ok();
    match table.and_then(|table| table.first_taken()) {
        Some(taken) => Err(in_use(id, theirs, taken)),
        None => Ok(()),
    }
}

/// The error for a port that is another one, made of that which says who drives it.
pub(crate) fn in_use(port: PortId, theirs: String, taken: Error) -> Error {
    match taken {
        Error::Taken { slot, pid, .. } => Error::InUse {
            port,
            theirs,
            slot,
            pid,
        },
        other => other,
    }
}

fn join_all(region: &'static Region, exchange: &Arc<dyn Exchange>) -> Result<Vec<Port>, Error> {
    let mut found = Vec::new();
    let there = records(region).take_while(|(_, record)| record.state() != PortState::Absent);
    for (id, record) in there {
        let damaged = |error: Error| Error::Damaged {
            port: id,
            reason: error.to_string(),
        };
        let args = DevArgs::parse(&record.described()).map_err(damaged)?;
        let driver = args.check(DRIVERS).map_err(damaged)?;
        found.push((id, record, args, driver));
    }
    let all: Vec<DevArgs> = found.iter().map(|(.., args, _)| args.clone()).collect();
    let join = |(id, record, args, driver): (PortId, Record, DevArgs, &'static dyn Driver)| {
        let cx = Attach {
            region,
            port: id,
            vdevs: &all,
            mac: record.mac(),
            mtu: record.mtu(),
        };
        let device = driver.attach(&cx, &args)?;
        let place = Place {
            id,
            region,
            record,
            exchange: Arc::clone(exchange),
        };
        Port::join(place, args, driver, device)
    };
    found.into_iter().map(join).collect()
}

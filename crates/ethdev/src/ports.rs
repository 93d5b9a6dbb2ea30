//! All ports of the group, as this process sees them.

use std::sync::Arc;

use eal::ports::{PORTS_MAX, PortRecord};
use eal::sync::Ordering;
use eal::{Eal, ProcType, Region};

use crate::args::DevArgs;
use crate::driver::{Attach, Driver, PortId, Probe};
use crate::drivers::DRIVERS;
use crate::error::{Error, PortState};
use crate::exchange::{Exchange, LocalExchange};
use crate::interfaces;
use crate::mac::MacAddress;
use crate::port::{Place, Port};
use crate::table::QueueTable;

/// All ports of the group. A clone is another handle on the same ports.
#[derive(Debug, Clone)]
pub struct Ports {
    ports: Arc<[Port]>,
}

impl Ports {
    /// The primary opens what `--vdev` names, in order; a secondary joins what the primary has opened.
    ///
    /// # Errors
    ///
    /// What is wrong with an argument, a privilege that is missing, a device that is not there; see [`Error`].
    pub fn probe(eal: &Eal) -> Result<Self, Error> {
        if eal.proc_type() == ProcType::Primary
            && let Some(address) = eal.args().allow.first()
        {
            return Err(interfaces::refuse_pci(address));
        }
        Self::open(
            eal.region(),
            eal.proc_type(),
            &eal.args().vdevs,
            Arc::new(LocalExchange::default()),
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

fn open_all(
    region: &'static Region,
    vdevs: &[String],
    exchange: &Arc<dyn Exchange>,
) -> Result<Vec<Port>, Error> {
    let checked = check_all(vdevs)?;
    let all: Vec<DevArgs> = checked.iter().map(|(args, _)| args.clone()).collect();
    for (id, record) in (0..).map(PortId).zip(region.port_records()) {
        refuse_what_is_in_use(region, id, record, all.get(usize::from(id.0)))?;
    }
    let mut ports = Vec::with_capacity(checked.len());
    for ((id, record), (args, driver)) in (0..).map(PortId).zip(region.port_records()).zip(checked)
    {
        let device = driver.probe(
            &Probe {
                region,
                port: id,
                vdevs: &all,
            },
            &args,
        )?;
        let place = Place {
            id,
            region,
            record,
            exchange: Arc::clone(exchange),
        };
        ports.push(Port::announce(place, args, driver, device)?);
    }
    for record in region.port_records().iter().skip(ports.len()) {
        // Release: pairs with the Acquire in `join_all`, as any other state does.
        record
            .state
            .store(PortState::Absent.number(), Ordering::Release);
    }
    Ok(ports)
}

/// A port that a former primary opened stays what it is as long as somebody uses it.
fn refuse_what_is_in_use(
    region: &'static Region,
    id: PortId,
    record: &PortRecord,
    ours: Option<&DevArgs>,
) -> Result<(), Error> {
    if PortState::from_number(record.state.load(Ordering::Acquire)) == PortState::Absent {
        return Ok(());
    }
    let theirs = described(record);
    if ours.is_some_and(|ours| ours.to_string() == theirs) {
        return Ok(());
    }
    match QueueTable::lookup(region, id)
        .ok()
        .and_then(|table| table.first_taken())
    {
        Some(Error::Taken { slot, pid, .. }) => Err(Error::InUse {
            port: id,
            theirs,
            slot,
            pid,
        }),
        _ => Ok(()),
    }
}

fn join_all(region: &'static Region, exchange: &Arc<dyn Exchange>) -> Result<Vec<Port>, Error> {
    let mut found = Vec::new();
    for (id, record) in (0..).map(PortId).zip(region.port_records()) {
        // Acquire: the rest of the record was written before. Pairs with the Release in `Port::set_state`.
        if PortState::from_number(record.state.load(Ordering::Acquire)) == PortState::Absent {
            break;
        }
        let damaged = |error: Error| Error::Damaged {
            port: id,
            reason: error.to_string(),
        };
        let args = DevArgs::parse(&described(record)).map_err(damaged)?;
        let driver = args.check(DRIVERS).map_err(damaged)?;
        found.push((id, record, args, driver));
    }
    let all: Vec<DevArgs> = found.iter().map(|(.., args, _)| args.clone()).collect();
    found
        .into_iter()
        .map(|(id, record, args, driver)| {
            let mac = MacAddress::from_word(record.mac.load(Ordering::Relaxed));
            let mtu = u16::try_from(record.mtu.load(Ordering::Relaxed)).unwrap_or(u16::MAX);
            let device = driver.attach(
                &Attach {
                    region,
                    port: id,
                    vdevs: &all,
                    mac,
                    mtu,
                },
                &args,
            )?;
            Port::join(
                Place {
                    id,
                    region,
                    record,
                    exchange: Arc::clone(exchange),
                },
                args,
                driver,
                device,
            )
        })
        .collect()
}

/// What a record says that the user wrote.
fn described(record: &PortRecord) -> String {
    let (name, args) = (record.name.get(), record.args.get());
    if args.is_empty() {
        name
    } else {
        format!("{name},{args}")
    }
}

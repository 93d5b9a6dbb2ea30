//! A look at all pools and rings of a region that others left: may it be used?
//!
//! Every zone record, every magazine and every index in it, every tag, every ring's ends and every item are looked at. What is
//! found wrong is looked at again, since living processes move buffers meanwhile; what is wrong each time is damage. A
//! buffer that a dead one held is none: the sweep takes care of it. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use eal::holder::HolderKind;
use eal::process::Owner;
use eal::{Region, ZoneKind};
use ring::Ring;

use crate::error::Error;
use crate::index::MbufIndex;
use crate::pool::Pool;

/// How often what looks wrong is looked at.
const LOOKS: usize = 4;
/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks at everything that a new primary is about to use.
///
/// # Errors
///
/// [`Error::Damaged`] names the pool or ring and what is wrong with it; [`Error::Layout`] when another release made it.
pub fn verify(region: &'static Region) -> Result<(), Error> {
    let mut faults = look(region)?;
    for _ in 1..LOOKS {
        if faults.is_empty() {
            return Ok(());
        }
        sleep(PAUSE);
        let again = look(region)?;
        faults.retain(|fault, _| again.contains_key(fault));
    }
    match faults.into_iter().next() {
        Some((fault, name)) => Err(Error::Damaged { name, what: fault }),
        None => Ok(()),
    }
}

/// What is wrong, and with which zone.
type Faults = BTreeMap<String, String>;

fn look(region: &'static Region) -> Result<Faults, Error> {
    let mut faults = Faults::new();
    if let Some(record) = region.damaged_zone() {
        faults.insert(
            format!("record {record} of the zone table describes no zone"),
            "zone table".to_owned(),
        );
    }
    let mut pools = Vec::new();
    for zone in region.zones() {
        let name = zone.name().to_string();
        let outcome = match zone.kind() {
            ZoneKind::Pool => Pool::lookup(region, &name).map(|pool| pools.push(pool)),
            ZoneKind::Ring => match Ring::lookup(region, &name) {
                Ok(_) | Err(ring::Error::Unfinished { .. }) => Ok(()),
                Err(error) => Err(Error::Damaged {
                    name: name.clone(),
                    what: error.to_string(),
                }),
            },
            ZoneKind::Plain => Ok(()),
        };
        match outcome {
            // A primary died over it before anybody knew it: it is made anew.
            Ok(()) | Err(Error::Unfinished { .. }) => {}
            Err(Error::Damaged { name, what }) => {
                faults.insert(what, name);
            }
            Err(error) => return Err(error),
        }
    }
    let ids: BTreeSet<u8> = pools.iter().map(Pool::id).collect();
    if ids.len() < pools.len() {
        faults.insert("two pools have one id".to_owned(), "pools".to_owned());
    }
    for pool in &pools {
        look_at_pool(*pool, &mut faults);
    }
    for ring in Ring::all(region) {
        look_at_ring(ring, &pools, &mut faults);
    }
    Ok(faults)
}

fn look_at_pool(pool: Pool, faults: &mut Faults) {
    let mut fault = |what: String| {
        faults.insert(what, pool.name().to_string());
    };
    let mut listed = vec![false; pool.count() as usize];
    for (number, magazine) in pool.magazines().iter().enumerate() {
        let owner = magazine.owner();
        if owner != Owner::NONE && owner.slot().is_none() {
            fault(format!("the owner of magazine {number} is nobody"));
        }
        for index in magazine.entries() {
            match listed.get_mut(index.number() as usize) {
                Some(seen) if index.pool() == pool.id() => {
                    if std::mem::replace(seen, true) {
                        fault(format!(
                            "{index} is listed twice, also in magazine {number}"
                        ));
                    }
                }
                _ => fault(format!("magazine {number} lists {index}, which it has not")),
            }
        }
    }
    for number in 0..pool.count() {
        let index = MbufIndex::new(pool.id(), number);
        if pool.holder(index).map(eal::Holder::kind) == Some(HolderKind::Invalid) {
            fault(format!("the tag of {index} names nobody"));
        }
    }
}

fn look_at_ring(ring: Ring<'static>, pools: &[Pool], faults: &mut Faults) {
    let mut fault = |what: String| {
        faults.insert(what, ring.name().to_string());
    };
    // Without numbers: what is damaged while others move it is the same fault at each look.
    if ring.check().is_err() {
        fault("its ends are where they cannot be".to_owned());
    }
    if !ring.carries_mbufs() {
        return;
    }
    let mut foreign = false;
    ring.walk(|item| {
        let index = MbufIndex::from_bits(item);
        let known = pools
            .iter()
            .any(|pool| pool.id() == index.pool() && index.number() < pool.count());
        if !known {
            foreign = true;
        }
    });
    if foreign {
        fault("an index waits in it that no pool has".to_owned());
    }
}

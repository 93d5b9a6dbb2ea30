//! Ports: where packets come from and go to, and who drives their queues.
//!
//! The primary opens ports and hands their queues out; each process drives its own queues directly. RX and TX queues are
//! had apart, and each belongs to one data-path thread of one process at a time.
//!
//! Read the modules in this order:
//!
//! | module | what it is |
//! |---|---|
//! | [`args`] | what a user writes to name a port |
//! | [`mac`], [`capabilities`] | an address; what a device does by itself |
//! | [`driver`] | the traits of a driver |
//! | [`stats`] | what is counted |
//! | [`flow`], [`rss`] | which flow a frame belongs to, its hash, and the table from hash to queue |
//! | `table` | what the group knows of a port's queues: the zone `port.N.queues` |
//! | `record` | what it knows of the port |
//! | [`exchange`] | how descriptors travel |
//! | [`queue`] | a queue in the hands of its thread |
//! | [`port`], [`ports`] | one port: what it says, its queues, its life; all ports |
//! | [`proxy`] | queues that the primary drives for others |
//! | [`tx_buffer`] | packets that wait for a burst |
//! | [`mod@interfaces`] | the kernel's interfaces, for those who named none |
//! | [`drivers`] | the drivers |
//! | [`error`] | what can go wrong |
//!
//! ```
//! use std::sync::Arc;
//!
//! use eal::{ProcType, Region, Slot};
//! # use forebay_ethdev as ethdev;
//! use ethdev::{LocalExchange, PortConfig, PortId, Ports, QueueId};
//! use mbuf::{Burst, Lcore, Pool, PoolConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let region: &'static Region = Box::leak(Box::new(Region::anonymous(4 << 20)?));
//! let pool = Pool::create(region, &PoolConfig::new("packets", 256))?;
//! let exchange = Arc::new(LocalExchange::default());
//! let ports = Ports::open(region, ProcType::Primary, &["net_null0,size=64".into()], exchange)?;
//!
//! let port = ports.port(PortId(0))?;
//! port.configure(1, 1, &PortConfig::default())?;
//! port.rx_queue_setup(QueueId(0), 0, pool)?;
//! port.tx_queue_setup(QueueId(0), 0)?;
//! port.start()?;
//!
//! let lcore = Lcore::new(Slot::claim(region, "example")?);
//! let mut rx = port.rx_queue(QueueId(0), lcore.owner())?;
//! let mut tx = port.tx_queue(QueueId(0), lcore.owner())?;
//! let mut burst = Burst::new(&lcore);
//! assert_eq!(rx.rx_burst(&lcore, &mut burst), 32);
//! assert_eq!(tx.tx_burst(&mut burst), 32);
//! assert_eq!(port.stats().tx.bytes, 32 * 64);
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

pub mod args;
pub mod capabilities;
pub mod driver;
pub mod drivers;
pub mod error;
pub mod exchange;
pub mod flow;
pub mod interfaces;
pub mod mac;
pub mod port;
pub mod ports;
pub mod proxy;
pub mod queue;
mod record;
pub mod rss;
pub mod stats;
mod table;
pub mod tx_buffer;

#[cfg(test)]
mod tests;

pub use args::{DevArgs, Key, PortConfig};
pub use capabilities::Capabilities;
pub use driver::{Device, DeviceInfo, Direction, Driver, Handed, Link, PortId, QueueId, Wakeup};
pub use drivers::DRIVERS;
pub use drivers::af_xdp::restore_interfaces;
pub use error::{Error, PortState};
pub use exchange::{Exchange, LocalExchange};
pub use flow::Flow;
pub use interfaces::{interfaces, interfaces_hint, vdevs};
pub use mac::MacAddress;
pub use port::Port;
pub use ports::Ports;
pub use proxy::Proxies;
pub use queue::{RxQueue, TxQueue};
pub use rss::{RETA_LEN, Reta, RssKey, Toeplitz};
pub use stats::{DropReason, PortStats, QueueCounters, QueueState, QueueStats};
pub use table::QUEUES_MAX;
pub use tx_buffer::TxBuffer;

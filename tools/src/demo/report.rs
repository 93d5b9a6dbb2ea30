//! What the demo's processes counted, and whether every buffer is where it should be.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use forebay::eal::{Counter, Observer};
use forebay::pipeline::stats::PortInfo;

use super::step;
use crate::check;
use crate::print::{Output, Table, thousands};

/// How long packets may be under way after the last was sent.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);
/// How often the check looks before something counts as wrong.
const PASSES: u32 = 10;

/// Prints the statistics and the check; `false` if a buffer is not in exactly one place.
pub(super) fn show(runtime_dir: &Path, prefix: &str) -> anyhow::Result<bool> {
    let observer = Box::leak(Box::new(Observer::open(Some(runtime_dir), prefix)?));
    let region = observer.region();
    let info = PortInfo::lookup(region)?;
    settle(&info);
    let mut output = Output::new(false);
    output.say(&format!("\n{}\n{}", ports(&info), clients(&info)))?;
    let is_clean = check::show(region, PASSES, &mut output)?;
    output.say("")?;
    output.finish()?;
    let verdict = if is_clean {
        "is in exactly one place"
    } else {
        "is NOT in exactly one place"
    };
    step("check", &format!("every buffer {verdict}"))?;
    Ok(is_clean)
}

/// Waits until what was received has been sent or dropped, so that the numbers add up. Hosts say
/// something of their own accord now and then, so not for long.
fn settle(info: &PortInfo<'_>) {
    let until = Instant::now() + SETTLE_LIMIT;
    while Instant::now() < until {
        let clients: Vec<_> = (0..info.clients()).map(|id| info.client(id)).collect();
        let ports: Vec<_> = (0..info.ports().len())
            .map(|port| info.port(port))
            .collect();
        let sum = |table: &[Counter]| table.iter().map(Counter::get).sum::<u64>();
        let by_server: u64 = ports
            .iter()
            .map(|port| port.rx.get().saturating_sub(port.no_client.get()))
            .sum();
        let by_clients: u64 = clients.iter().map(|client| sum(client.rx)).sum();
        let gone: u64 = clients
            .iter()
            .map(|client| sum(client.tx) + sum(client.tx_drop))
            .sum();
        let dropped: u64 = (0..info.clients())
            .map(|id| info.ring(id).rx_drop.get())
            .sum();
        if gone + dropped >= by_server.max(by_clients) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Packets by port.
fn ports(info: &PortInfo<'_>) -> String {
    let clients: Vec<_> = (0..info.clients()).map(|id| info.client(id)).collect();
    let rows: Vec<_> = info
        .ports()
        .iter()
        .enumerate()
        .map(|(column, port)| {
            let counters = info.port(column);
            let sum = |of: &dyn Fn(usize) -> u64| (0..clients.len()).map(of).sum::<u64>();
            let read_by_clients = sum(&|id| clients[id].rx[column].get());
            let numbers = [
                counters.rx.get().max(read_by_clients),
                sum(&|id| clients[id].tx[column].get()),
                sum(&|id| clients[id].tx_segments[column].get()),
                sum(&|id| clients[id].tx_drop[column].get()),
                counters.no_client.get(),
            ];
            row(&port.to_string(), &numbers)
        })
        .collect();
    let columns = [
        " PORT",
        " RECEIVED",
        " SENT",
        " SEGMENTS",
        " DROPPED",
        " NO CLIENT",
    ];
    Table {
        columns: &columns,
        rows: &rows,
    }
    .to_string()
}

/// Packets by client.
fn clients(info: &PortInfo<'_>) -> String {
    let count = info.ports().len();
    let rows: Vec<_> = (0..info.clients())
        .map(|id| {
            let (ring, own) = (info.ring(id), info.client(id));
            let sum = |table: &[Counter]| table.iter().take(count).map(Counter::get).sum::<u64>();
            let numbers = [
                ring.rx.get().max(sum(own.rx)),
                ring.rx_drop.get(),
                sum(own.tx),
                sum(own.tx_drop),
            ];
            row(&id.to_string(), &numbers)
        })
        .collect();
    let columns = [" CLIENT", " RECEIVED", " RING FULL", " SENT", " DROPPED"];
    Table {
        columns: &columns,
        rows: &rows,
    }
    .to_string()
}

fn row(name: &str, numbers: &[u64]) -> Vec<String> {
    std::iter::once(name.to_owned())
        .chain(numbers.iter().map(|number| thousands(*number)))
        .collect()
}

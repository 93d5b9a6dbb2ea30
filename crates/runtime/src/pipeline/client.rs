//! A client: takes packets from its ring, or from its own receive queues, and sends them out of
//! the other port of the pair on its own transmit queue.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use eal::sleep::{self, Found, WaitSet};
use eal::{Eal, EalArgs, Owner, ProcType};
use ethdev::{PortId, Ports, QueueId, RxQueue, TxBuffer, TxQueue};
use mbuf::{BURST_MAX, Burst, Lcore, MbufConsumer};
use ring::Ring;

use super::args::{ClientArgs, Queues, Usage};
use super::ring_name;
use super::stats::{ClientCounters, PORTS_MAX, PortInfo};
use crate::idle::{Idle, Waited};
use crate::pace::Pace;
use crate::stop::Stop;

/// How often a client looks whether there is one.
const POLL: Duration = Duration::from_millis(5);

/// How long a client without `--wait` gives a server that is just starting.
const SERVER_WAIT: Duration = Duration::from_secs(2);

/// Runs until the stop flag is set.
pub(super) fn forward(mut eal_args: EalArgs, args: &[String]) -> anyhow::Result<()> {
    let args = ClientArgs::parse(args)?;
    // Also for `auto`, and without the argument: a client never becomes the primary.
    eal_args.proc_type = ProcType::Secondary;
    let stop = Stop::on_signals()?;
    let eal = Eal::init(eal_args).map_err(|error| match error {
        eal::Error::NoGroup { prefix } => anyhow::anyhow!(
            "no group {prefix:?} is running; start `mp_server` (or `forebay server`) with --file-prefix={prefix} first, or let this client wait for it with --wait SECONDS"
        ),
        error => error.into(),
    })?;
    let outcome = run(&eal, &args, &stop);
    let cleanup = eal.cleanup();
    outcome.and(cleanup.map_err(Into::into))
}

fn run(eal: &Eal, args: &ClientArgs, stop: &Stop) -> anyhow::Result<()> {
    let region = eal.region();
    let wait = Duration::from_secs(eal.args().wait_seconds.into()).max(SERVER_WAIT);
    let Some(info) = wait_for_server(eal, wait, stop)? else {
        return Ok(());
    };
    let clients = info.clients();
    if args.id >= clients {
        return Err(Usage(format!(
            "-n {}: the server has room for {clients} client{}, numbered from 0; use a smaller id, or start it with a larger -n",
            args.id,
            if clients == 1 { "" } else { "s" },
        ))
        .into());
    }
    eal.pin_main()?;
    let lcore = Lcore::new(eal.claim_slot(&format!("client {}", args.id))?);
    lcore.slot().record().set_core(eal.main_lcore().0);
    let ports = Ports::probe(eal)?;
    let queue = QueueId(u16::try_from(args.id).expect("below CLIENTS_MAX"));

    // The claims come first, those that tell two clients with one id apart before all others.
    let named = Ring::lookup(region, &ring_name(args.id))?;
    let ring = named.consumer(lcore.owner()).map_err(|error| match error {
        ring::Error::Taken { pid, .. } => taken(eal, args.id, pid),
        error => error.into(),
    })?;
    let mut source = Source {
        ring: MbufConsumer::new(ring),
        queues: Vec::new(),
        caught_up: false,
    };
    if info.queues() == Queues::Each {
        for port in info.ports() {
            let port = ports.port(PortId(port))?;
            let end = patiently(wait, stop, || port.rx_queue(queue, lcore.owner()));
            source.queues.push(end.map_err(|error| match error {
                ethdev::Error::Taken { pid, .. } => taken(eal, args.id, pid),
                error => error.into(),
            })?);
        }
    }
    let mut outputs = patiently(wait, stop, || {
        Outputs::open(&lcore, &ports, info, args.id, queue)
    })?;
    let owner = info.client(args.id).owner;
    owner.store(lcore.owner().bits(), Ordering::Relaxed);
    eprintln!("ready: client {}, slot {}", args.id, lcore.slot_id());

    // The server may sleep, with packets in the device that wait for the first who comes.
    for (slot, ..) in named.producers() {
        region.ring_doorbell(slot);
    }

    let mut idle = Idle::new(lcore.slot(), args.busy_poll, stop);
    let mut pace = Pace::new(&lcore.slot().record().run, args.stall_report);
    while !stop.is_set() {
        pace.round();
        if turn(&lcore, &mut source, &mut outputs) {
            idle.reset();
        } else {
            outputs.flush();
            if idle.wait(&mut source) == Waited::Asleep {
                pace.slept();
            }
        }
    }
    // What is in the ring by now goes out as well: who stops a client loses nothing. The bound is
    // for a server that goes on filling it.
    // What waits in a device waits for whoever takes the queue next.
    source.queues.clear();
    let mut left = source.ring.len();
    while left > 0 && turn(&lcore, &mut source, &mut outputs) {
        left = left.saturating_sub(1);
    }
    outputs.flush();
    owner.store(Owner::NONE.bits(), Ordering::Relaxed);
    Ok(())
}

/// Opens what needs a primary that answers, also while one is dead and the next one comes.
fn patiently<T>(
    wait: Duration,
    stop: &Stop,
    mut open: impl FnMut() -> Result<T, ethdev::Error>,
) -> Result<T, ethdev::Error> {
    let start = Instant::now();
    loop {
        match open() {
            Err(
                ethdev::Error::Eal(eal::Error::PrimaryGone { .. })
                | ethdev::Error::NoDescriptors { .. }
                | ethdev::Error::WrongState { .. },
            ) if start.elapsed() < wait && !stop.is_set() => thread::sleep(POLL),
            outcome => return outcome,
        }
    }
}

/// Says in the user's words that another client has the id.
fn taken(eal: &Eal, id: u32, pid: u32) -> anyhow::Error {
    if pid == eal.region().info().primary_pid {
        return anyhow::anyhow!(
            "-n {id}: the server, process {pid}, looks after the place of client {id} and does not let go of it; see whether it is stopped"
        );
    }
    anyhow::anyhow!(
        "-n {id}: client {id} is running as process {pid}; use another id, or stop that process"
    )
}

/// The server's counters, once it is ready for clients; `None` if this process is told to stop first.
fn wait_for_server(
    eal: &Eal,
    wait: Duration,
    stop: &Stop,
) -> anyhow::Result<Option<PortInfo<'static>>> {
    let start = Instant::now();
    let mut told = false;
    while !stop.is_set() {
        if let Ok(info) = PortInfo::lookup(eal.region())
            && !info.ports().is_empty()
        {
            return Ok(Some(info));
        }
        let prefix = &eal.args().prefix;
        anyhow::ensure!(
            start.elapsed() < wait,
            "the primary of group {prefix:?} runs no server; start `mp_server` (or `forebay server`) with --file-prefix={prefix}, or wait longer with --wait"
        );
        if start.elapsed() > SERVER_WAIT && !told {
            tracing::info!("waiting for the server of group {prefix:?}");
            told = true;
        }
        thread::sleep(POLL);
    }
    Ok(None)
}

/// Takes a burst from each source and buffers it for sending; says whether there was any.
fn turn<'c>(lcore: &'c Lcore, source: &mut Source, outputs: &mut Outputs<'c>) -> bool {
    let mut any = false;
    let mut burst = Burst::new(lcore);
    if source.ring.dequeue_burst(lcore, &mut burst).count > 0 {
        outputs.send(burst);
        any = true;
    }
    // What lies in the ring of a client that comes back is older than what its queues hold.
    source.caught_up |= !any;
    if !source.caught_up {
        return any;
    }
    for queue in &mut source.queues {
        let mut burst = Burst::new(lcore);
        if queue.rx_burst(lcore, &mut burst) > 0 {
            outputs.send(burst);
            any = true;
        }
    }
    any
}

/// Where a client's packets come from.
struct Source {
    /// From the server: all packets, or what came by the queues of others that are away.
    ring: MbufConsumer<'static>,
    /// With `--queues each`, a queue of its own on each port.
    queues: Vec<RxQueue>,
    /// Whether the ring was seen empty.
    caught_up: bool,
}

/// The ports in pairs, each with this client's transmit queue.
struct Outputs<'c> {
    lcore: &'c Lcore,
    ports: Vec<Output<'c>>,
    /// Port number to place in `ports`; [`NOWHERE`] for a port that is not in use.
    column: [u8; PORTS_MAX],
    counters: ClientCounters<'static>,
}

impl sleep::Source for Source {
    fn must_poll(&self) -> bool {
        self.queues.as_slice().must_poll()
    }

    fn sleep_begin(&mut self) {
        self.ring.sleep_begin();
        self.queues.as_mut_slice().sleep_begin();
    }

    fn look(&mut self) -> Found {
        self.ring.look().max(self.queues.as_mut_slice().look())
    }

    fn sleep_end(&mut self) {
        self.ring.sleep_end();
        self.queues.as_mut_slice().sleep_end();
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        self.queues.as_slice().wait_on(set);
    }
}

const NOWHERE: u8 = u8::MAX;

/// One port to send on.
struct Output<'c> {
    queue: TxQueue,
    buffer: TxBuffer<'c>,
    /// Packets buffered since the last flush.
    packets: u64,
}

impl<'c> Outputs<'c> {
    fn open(
        lcore: &'c Lcore,
        ports: &Ports,
        info: PortInfo<'static>,
        id: u32,
        queue: QueueId,
    ) -> Result<Self, ethdev::Error> {
        let mut column = [NOWHERE; PORTS_MAX];
        let mut outputs = Vec::new();
        for (place, port) in info.ports().into_iter().enumerate() {
            let queue = ports.port(PortId(port))?.tx_queue(queue, lcore.owner())?;
            if let Some(entry) = column.get_mut(usize::from(port)) {
                *entry = u8::try_from(place).expect("at most PORTS_MAX ports");
            }
            outputs.push(Output {
                queue,
                buffer: TxBuffer::new(lcore),
                packets: 0,
            });
        }
        Ok(Self {
            lcore,
            ports: outputs,
            column,
            counters: info.client(id),
        })
    }

    /// Buffers each packet for the other port of its pair.
    fn send(&mut self, mut burst: Burst<'c>) {
        while !burst.is_empty() {
            // As the server received them: packets of one port mostly stand together.
            let run = burst.run_of_port();
            let column = self.column.get(usize::from(run.port)).copied();
            let came_in = column.unwrap_or(NOWHERE);
            let goes_out = usize::from(came_in ^ 1);
            let mut packets = if run.len == burst.len() {
                std::mem::replace(&mut burst, Burst::new(self.lcore))
            } else {
                burst.take_front(run.len)
            };
            if goes_out < self.ports.len() {
                self.counters.rx[usize::from(came_in)].add(run.totals.packets);
                self.counters.rx_segments[usize::from(came_in)].add(run.totals.segments);
                self.buffer(goes_out, &mut packets);
            } else {
                // No such pair: a producer wrote a port number that is not in use.
                self.counters.tx_drop[0].add(packets.len() as u64);
            }
        }
    }

    fn buffer(&mut self, place: usize, packets: &mut Burst<'c>) {
        while !packets.is_empty() {
            let output = &mut self.ports[place];
            output.packets += output.buffer.append(packets) as u64;
            if output.buffer.len() == BURST_MAX {
                self.flush_port(place);
            }
        }
    }

    fn flush(&mut self) {
        for place in 0..self.ports.len() {
            self.flush_port(place);
        }
    }

    /// Sends what is buffered for one port; what the port has no room for is dropped and counted.
    fn flush_port(&mut self, place: usize) {
        let output = &mut self.ports[place];
        if output.packets == 0 {
            return;
        }
        output.buffer.flush(&mut output.queue, |_| ());
        // Not what it took: it may also have taken and dropped.
        let sent = output.queue.last_burst();
        self.counters.tx[place].add(sent.packets);
        self.counters.tx_segments[place].add(sent.segments);
        self.counters.tx_drop[place].add(output.packets.saturating_sub(sent.packets));
        output.packets = 0;
    }
}

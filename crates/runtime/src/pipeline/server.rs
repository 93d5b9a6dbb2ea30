//! The server: receives on all ports in turn and spreads the packets over the clients' rings.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use eal::sleep::{Found, Source, WaitSet};
use eal::{Eal, EalArgs, ProcType, Region};
use ethdev::{
    DevArgs, Direction, Port, PortConfig, PortId, Ports, Proxies, QueueId, RxQueue, proxy, rss,
};
use mbuf::{BURST_MAX, Burst, Lcore, Mbuf, MbufProducer, Pool, PoolConfig, SEGMENTS_MAX, Totals};
use ring::{Flags, Ring};

use crate::guard::Guard;

use super::args::{Dispatch, Queues, ServerArgs, Usage};
use super::stats::{CLIENTS_MAX, PortCounters, PortInfo, RingCounters};
use super::{POOL, ring_name, screen};
use crate::idle::{Idle, Waited};
use crate::pace::Pace;
use crate::stop::Stop;

/// Descriptors a queue, as in the lesson (`RTE_MP_RX_DESC_DEFAULT`).
const DESCRIPTORS: u32 = 1024;
/// Buffers of a 64 KiB packet, the largest that a host hands over for segmentation, at a data room
/// of 2 KiB.
const PACKET_SEGMENTS: u32 = 36;
const _: () = assert!((PACKET_SEGMENTS as usize) < SEGMENTS_MAX);
/// Entries of the redirection table of `--dispatch rss`.
const RETA_SIZE: usize = 512;

/// Turns of the loop between two looks whether the guard goes on.
const TURNS_A_LOOK: u32 = 1024;

/// How often the server looks for clients that are away.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// Runs until the stop flag is set.
pub(super) fn serve(mut eal_args: EalArgs, args: &[String]) -> anyhow::Result<()> {
    let args = ServerArgs::parse(args)?;
    let present = eal_args.vdevs.len() + eal_args.allow.len();
    if present == 0 {
        return Err(Usage(ethdev::interfaces_hint()).into());
    }
    let ports = args.ports(present)?;
    if eal_args.proc_type == ProcType::Secondary {
        return Err(Usage(
            "a server is the primary; leave --proc-type out, or start a client with --proc-type=auto"
                .to_owned(),
        )
        .into());
    }
    // `auto` means primary here: beside a living one a server has nothing to do, and says so.
    eal_args.proc_type = ProcType::Primary;
    // What can be wrong with a port's arguments is told before anything is made.
    let mut proxied = 0;
    for vdev in ethdev::vdevs(&eal_args)? {
        let vdev = DevArgs::parse(&vdev)?;
        let driver = vdev.check(ethdev::DRIVERS)?;
        // What is not used of them is reserved as well. The server itself has no need of rings.
        let rx = args.queues == Queues::Each && Port::will_be_proxied(&vdev, driver, Direction::Rx);
        let tx = Port::will_be_proxied(&vdev, driver, Direction::Tx);
        // What a stopped client keeps in an RX ring may be as large as can be; a TX ring is emptied.
        let held = u32::from(rx) * proxy::RX_RING_SIZE_MAX * PACKET_SEGMENTS
            + u32::from(tx) * proxy::TX_RING_SIZE_MAX;
        proxied += held * args.clients;
    }
    let pool_config = PoolConfig::new(POOL, pool_count(&args, &ports, proxied));
    let needed_mb = region_mb(&pool_config, &args, &ports)?;
    if eal_args.memory_mb.is_none() && eal_args.socket_mem_mb.is_empty() {
        eal_args.memory_mb = Some(needed_mb);
    }
    let given_mb = eal_args.memory_bytes() >> 20;
    anyhow::ensure!(
        given_mb >= needed_mb,
        "{given_mb} MB are too few for {} clients and rings of {}; use -m {needed_mb}",
        args.clients,
        args.ring_size
    );

    let stop = Stop::on_signals()?;
    let eal = Eal::init(eal_args)?;
    let outcome = serve_group(&eal, &args, (&ports, &pool_config), &stop);
    let cleanup = eal.cleanup();
    outcome.and(cleanup.map_err(Into::into))
}

fn serve_group(
    eal: &Eal,
    args: &ServerArgs,
    (ports, pool_config): (&[u16], &PoolConfig<'_>),
    stop: &Stop,
) -> anyhow::Result<()> {
    // Before anything is allocated: what the dead left is swept.
    let guard = Guard::start(eal)?;
    Server::open(eal, args, ports, pool_config)?.run((eal, &guard), args, stop)
}

/// Buffers that the pipeline can hold at once, term by term. `proxied`: what waits in the rings of proxied queues.
fn pool_count(args: &ServerArgs, ports: &[u16], proxied: u32) -> u32 {
    let ports = u32::try_from(ports.len()).expect("at most 16 bits of a mask");
    let burst = u32::try_from(BURST_MAX).expect("32");
    let rx_queues = if args.queues == Queues::Each {
        args.clients
    } else {
        1
    };
    // What devices hold.
    let queues = ports * (rx_queues + args.clients) * DESCRIPTORS;
    // What waits in the clients' rings, if every packet is as large as can be.
    let rings = args.clients * args.ring_size * PACKET_SEGMENTS;
    // What is staged: in the server a burst for each client, in each client one for each port.
    let staged = (args.clients + args.clients * ports) * burst;
    // What lies in the magazines of others: two a slot, for the server and its guard, the same of
    // its successor, the clients and as many that follow them.
    let magazines = (4 + 2 * args.clients) * 2 * u32::try_from(mbuf::MAGAZINE_LEN).expect("128");
    queues + rings + proxied + staged + magazines
}

/// Size of a region that holds it all.
fn region_mb(pool: &PoolConfig<'_>, args: &ServerArgs, ports: &[u16]) -> Result<u64, mbuf::Error> {
    const MIB: u64 = 1 << 20;
    /// Process table, port queues, statistics, and what a program adds.
    const REST: u64 = 4 * MIB;
    let ports = ports.len() as u64;
    let rings = u64::from(args.clients) * (u64::from(args.ring_size) * 4 + 4096);
    // Two for each client and port, should the port be shared by proxy.
    let proxies = 2 * ports * u64::from(args.clients) * (u64::from(DESCRIPTORS) * 4 + 4096);
    Ok((Pool::len_for(pool)? as u64 + rings + proxies + REST).div_ceil(2 * MIB) * 2)
}

/// What the server opened, before it runs.
struct Server {
    ports: Ports,
    ids: Vec<PortId>,
    info: PortInfo<'static>,
    rings: Vec<Ring<'static>>,
}

impl Server {
    fn open(
        eal: &Eal,
        args: &ServerArgs,
        ports: &[u16],
        pool_config: &PoolConfig<'_>,
    ) -> anyhow::Result<Self> {
        let region: &'static Region = eal.region();
        let all = Ports::probe(eal)?;
        let pool = Pool::create_or_lookup(region, pool_config)?;
        let ids: Vec<_> = ports.iter().copied().map(PortId).collect();
        let clients = u16::try_from(args.clients).expect("at most CLIENTS_MAX");
        let rx_queues = if args.queues == Queues::Each {
            clients
        } else {
            1
        };
        for id in &ids {
            let port = all.port(*id)?;
            port.configure(rx_queues, clients, &PortConfig::default())?;
            for queue in 0..rx_queues {
                port.rx_queue_setup(QueueId(queue), DESCRIPTORS, pool)?;
            }
            for queue in 0..clients {
                port.tx_queue_setup(QueueId(queue), DESCRIPTORS)?;
            }
            port.start()?;
        }
        let flags = Flags::SP_ENQ | Flags::SC_DEQ;
        let rings = (0..args.clients)
            .map(|client| {
                Ring::create_or_lookup(region, &ring_name(client), args.ring_size, None, flags)
            })
            .collect::<Result<_, _>>()?;
        // Last: a client that finds the zone finds all the rest.
        let info = PortInfo::create(region, ports, args.clients, args.queues)?;
        Ok(Self {
            ports: all,
            ids,
            info,
            rings,
        })
    }

    fn run(
        self,
        (eal, guard): (&Eal, &Guard),
        args: &ServerArgs,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        let watcher = screen::start(eal, &self.ports, args)?;
        eal.pin_main()?;
        let ports = self.ports.clone();
        guard.reap_with(move |lcore| ports.reap(lcore));
        let outcome = self.forward((eal, guard), args, stop);
        // The screen stops with the server, whatever ended it.
        let watched = watcher.wait();
        // Without a slot frames stay where the next server finds them.
        let lcore = eal.claim_slot("server").map(Lcore::new).ok();
        for id in &self.ids {
            let port = self.ports.port(*id)?;
            // Clients that go on keep their queues, and the next server takes the ports over as they are.
            if eal.has_others() {
                port.leave()?;
            } else {
                port.close()?;
            }
            if let Some(lcore) = &lcore {
                port.reclaim(lcore);
            }
        }
        outcome.and(watched)
    }

    /// The packet loop.
    fn forward(
        &self,
        (eal, guard): (&Eal, &Guard),
        args: &ServerArgs,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        let lcore = Lcore::new(eal.claim_slot("server")?);
        lcore.slot().record().set_core(eal.main_lcore().0);
        let mut spread = Spread::new(&lcore, self.info, &self.rings)?;
        let mut queues: Vec<(PortCounters<'_>, RxQueue)> = Vec::new();
        let mut stand_ins = StandIns {
            queues: Vec::new(),
            looked: Instant::now(),
        };
        for (column, id) in self.ids.iter().enumerate() {
            let port = self.ports.port(*id)?;
            if args.queues == Queues::Server {
                let queue = port.rx_queue(QueueId(0), lcore.owner())?;
                queues.push((self.info.port(column), queue));
            } else {
                stand_ins.watch(port, self.info.port(column));
            }
        }
        let mut proxies = self.ports.proxies(&lcore)?;
        eprintln!(
            "ready: {} ports, room for {} client{}, group {:?}",
            self.ids.len(),
            args.clients,
            if args.clients == 1 { "" } else { "s" },
            eal.args().prefix
        );
        let mut idle = Idle::of_devices(lcore.slot(), args.busy_poll, stop);
        let mut turns = 0_u32;
        let mut pace = Pace::new(&lcore.slot().record().run, args.stall_report);
        while !stop.is_set() {
            pace.round();
            // Before anything is handed out: a server that takes over finds its clients there.
            spread.look_who_is_there();
            let mut received = stand_ins.serve(&lcore, &mut spread);
            turns = turns.wrapping_add(1);
            anyhow::ensure!(
                !turns.is_multiple_of(TURNS_A_LOOK) || guard.is_alive(),
                "the guard has ended, so that nobody sweeps after the dead; start the server again: clients go on meanwhile"
            );
            for (counters, queue) in &mut queues {
                let mut burst = Burst::new(&lcore);
                let count = queue.rx_burst(&lcore, &mut burst);
                if count > 0 {
                    spread.hand_out((burst, queue.last_burst()), *counters, args.dispatch);
                    received += count;
                }
            }
            received += proxies.serve();
            if received > 0 {
                idle.reset();
                continue;
            }
            let mut sources = Sources {
                queues: &mut queues,
                stand_ins: &mut stand_ins,
                proxies: &mut proxies,
                is_anybody_there: !spread.present.is_empty(),
            };
            if idle.wait(&mut sources) == Waited::Asleep {
                pace.slept();
                // A sleep is worth as many turns.
                turns = TURNS_A_LOOK - 1;
            }
        }
        Ok(())
    }
}

/// What the server reads.
struct Sources<'a, 'p, 'c> {
    queues: &'a mut [(PortCounters<'static>, RxQueue)],
    stand_ins: &'a mut StandIns<'p>,
    proxies: &'a mut Proxies<'c>,
    /// If nobody is, packets of the absent wait where they are.
    is_anybody_there: bool,
}

impl Sources<'_, '_, '_> {
    fn all(&self) -> impl Iterator<Item = &RxQueue> {
        let stand_ins = self
            .stand_ins
            .queues
            .iter()
            .filter(|_| self.is_anybody_there);
        let own = self.queues.iter().map(|(_, queue)| queue);
        own.chain(stand_ins.filter_map(|stand_in| stand_in.queue.as_ref()))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut RxQueue> {
        let is_anybody_there = self.is_anybody_there;
        let stand_ins = self
            .stand_ins
            .queues
            .iter_mut()
            .filter(move |_| is_anybody_there);
        let own = self.queues.iter_mut().map(|(_, queue)| queue);
        own.chain(stand_ins.filter_map(|stand_in| stand_in.queue.as_mut()))
    }
}

impl Source for Sources<'_, '_, '_> {
    fn must_poll(&self) -> bool {
        self.proxies.must_poll() || self.all().any(RxQueue::must_poll)
    }

    fn sleep_begin(&mut self) {
        self.proxies.sleep_begin();
        self.all_mut().for_each(RxQueue::sleep_begin);
    }

    fn look(&mut self) -> Found {
        let wanted =
            |stand_in: &StandIn<'_>| stand_in.queue.as_ref().is_some_and(RxQueue::is_wanted);
        // Also with nobody there: who comes wants his queue.
        if self.stand_ins.queues.iter().any(wanted) {
            return Found::InDevice;
        }
        let proxies = self.proxies.look();
        self.all_mut().map(RxQueue::look).fold(proxies, Found::max)
    }

    fn sleep_end(&mut self) {
        self.proxies.sleep_end();
        self.all_mut().for_each(RxQueue::sleep_end);
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        self.proxies.wait_on(set);
        self.all().for_each(|queue| queue.wait_on(set));
    }
}

/// The queues of clients, which the server reads while their clients are away.
struct StandIns<'p> {
    queues: Vec<StandIn<'p>>,
    /// When they were last looked at: not each turn, at a system call a queue.
    looked: Instant,
}

/// One of them.
struct StandIn<'p> {
    port: &'p Port,
    id: QueueId,
    counters: PortCounters<'static>,
    /// Ours while nobody else has it.
    queue: Option<RxQueue>,
    /// Whether it was told why it cannot be had.
    told: bool,
}

impl<'p> StandIns<'p> {
    fn watch(&mut self, port: &'p Port, counters: PortCounters<'static>) {
        let ids = (0..port.queue_count(Direction::Rx)).map(QueueId);
        self.queues.extend(ids.map(|id| StandIn {
            port,
            id,
            counters,
            queue: None,
            told: false,
        }));
    }

    /// Takes queues that nobody reads, gives back those that are asked for, and hands out what came by the others. Returns how
    /// many packets that were.
    fn serve<'c>(&mut self, lcore: &'c Lcore, spread: &mut Spread<'c>) -> usize {
        if self.queues.is_empty() {
            return 0;
        }
        let look = self.looked.elapsed() >= LOOK_EVERY;
        if look {
            self.looked = Instant::now();
        }
        let mut received = 0;
        for stand_in in &mut self.queues {
            stand_in.queue.take_if(|queue| queue.is_wanted());
            // With nobody there to take them, packets wait in the device for who comes first.
            if spread.present.is_empty() {
                continue;
            }
            if look && stand_in.queue.is_none() {
                stand_in.take(lcore);
            }
            if let Some(queue) = &mut stand_in.queue {
                let mut burst = Burst::new(lcore);
                received += queue.rx_burst(lcore, &mut burst);
                if !burst.is_empty() {
                    // By flow, as the kernel had spread them: a client's flow stays in order with whoever gets it.
                    spread.hand_out(
                        (burst, queue.last_burst()),
                        stand_in.counters,
                        Dispatch::Rss,
                    );
                }
            }
        }
        received
    }
}

impl StandIn<'_> {
    fn take(&mut self, lcore: &Lcore) {
        match self.port.rx_queue_stand_in(self.id, lcore.owner()) {
            Ok(queue) => (self.queue, self.told) = (Some(queue), false),
            // As long as its client lives: as it should be.
            Err(ethdev::Error::Taken { .. }) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        "nobody reads rx queue {} of {}: {error}",
                        self.id,
                        self.port.name()
                    );
                }
            }
        }
    }
}

/// Hands packets to the clients that are there.
struct Spread<'c> {
    clients: Vec<Client<'c>>,
    /// Numbers of the clients that are there.
    present: Vec<usize>,
    /// The same as bits, to see a change without a comparison of lists.
    present_bits: u64,
    /// Whose turn it is, as a place in `present`.
    turn: usize,
    /// Which place in `present` a hash belongs to.
    reta: [u8; RETA_SIZE],
}

/// One client as the server sees it.
struct Client<'c> {
    ring: MbufProducer<'static>,
    /// What this turn of the loop found for it.
    staged: Burst<'c>,
    counters: RingCounters<'static>,
}

impl<'c> Spread<'c> {
    fn new(
        lcore: &'c Lcore,
        info: PortInfo<'static>,
        rings: &[Ring<'static>],
    ) -> anyhow::Result<Self> {
        let clients = (0..CLIENTS_MAX)
            .zip(rings)
            .map(|(id, ring)| {
                Ok(Client {
                    ring: MbufProducer::new(ring.producer(lcore.owner())?),
                    staged: Burst::new(lcore),
                    counters: info.ring(id),
                })
            })
            .collect::<Result<_, ring::Error>>()
            .context("a ring of the pipeline")?;
        Ok(Self {
            clients,
            present: Vec::with_capacity(rings.len()),
            present_bits: 0,
            turn: 0,
            reta: [0; RETA_SIZE],
        })
    }

    /// Looks which rings are open. Traffic of clients that are absent goes to the others; the ring of a killed one is closed
    /// by the guard's sweep.
    fn look_who_is_there(&mut self) {
        let bits = self
            .clients
            .iter()
            .enumerate()
            .fold(0_u64, |bits, (id, client)| {
                bits | u64::from(!client.ring.is_closed()) << id
            });
        if bits == self.present_bits {
            return;
        }
        self.present_bits = bits;
        self.present.clear();
        self.present
            .extend((0..self.clients.len()).filter(|id| bits >> id & 1 == 1));
        self.turn = 0;
        let count = self.present.len().max(1);
        for (entry, place) in self.reta.iter_mut().zip((0..count).cycle()) {
            *entry = u8::try_from(place).expect("at most CLIENTS_MAX");
        }
    }

    /// Hands out one burst and what it comes to, and drops and counts what nobody can take.
    fn hand_out(
        &mut self,
        (mut burst, all): (Burst<'c>, Totals),
        port: PortCounters<'_>,
        dispatch: Dispatch,
    ) {
        port.rx.add(all.packets);
        port.rx_segments.add(all.segments);
        if let [client] = self.present[..] {
            self.clients[client].send(&mut burst, all.segments);
            return;
        }
        if dispatch == Dispatch::Rss {
            burst.prefetch_data();
        }
        for mbuf in burst.drain() {
            let Some(client) = self.client_of(&mbuf, dispatch) else {
                port.no_client.add(1);
                continue;
            };
            self.clients[client].stage(mbuf);
        }
        for client in &self.present {
            self.clients[*client].flush();
        }
    }

    fn client_of(&mut self, mbuf: &Mbuf<'_>, dispatch: Dispatch) -> Option<usize> {
        let place = match dispatch {
            Dispatch::RoundRobin => {
                self.turn = if self.turn + 1 < self.present.len() {
                    self.turn + 1
                } else {
                    0
                };
                self.turn
            }
            Dispatch::Rss => {
                let hash = mbuf
                    .rss_hash()
                    .unwrap_or_else(|| rss::hash_frame(mbuf.data()));
                usize::from(self.reta[hash as usize % RETA_SIZE])
            }
        };
        self.present.get(place).copied()
    }
}

impl<'c> Client<'c> {
    fn stage(&mut self, mbuf: Mbuf<'c>) {
        if self.staged.room() == 0 {
            self.flush();
        }
        let refused = self.staged.push(mbuf);
        debug_assert!(refused.is_ok(), "`flush` empties the burst");
    }

    /// Hands over what is due.
    fn flush(&mut self) {
        let empty = Burst::new(self.staged.lcore());
        let mut staged = std::mem::replace(&mut self.staged, empty);
        let segments = staged.totals().segments;
        self.send(&mut staged, segments);
    }

    /// Puts a burst of so many segments into the ring in one operation, and drops what the ring has no room for.
    fn send(&mut self, burst: &mut Burst<'c>, segments: u64) {
        if burst.is_empty() {
            return;
        }
        let sent = self.ring.enqueue_burst(burst).count;
        let left = burst.totals();
        self.counters.rx.add(sent as u64);
        // The lengths lie in shared memory, where another process may change them.
        let segments = segments.saturating_sub(left.segments);
        self.counters.rx_segments.add(segments);
        if left.packets > 0 {
            self.counters.rx_drop.add(left.packets);
            self.ring.count_drops(burst.len());
            burst.clear();
        }
    }
}

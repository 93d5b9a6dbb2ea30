//! Neighbours: which Ethernet address an address on the link has, and whether it is still there.
//!
//! The states are those of RFC 4861 section 7.3.2, for IPv4 as well: ARP asks and answers, the rest is the same (RFC 1122 section
//! 2.3.2.1 wants old entries gone, and asks one neighbour at most once a second).
//!
//! ```text
//!                 resolve                       an answer
//!   (no entry) -----------> Incomplete ------------------------------> Reachable <----------+
//!       |                       | asked `probes_max` times                 | `reachable`    | an answer to a
//!       |                       v                                          v               | solicitation, or
//!       |                    Failed                                      Stale             | `confirm`
//!       | somebody mentions     ^                              resolve     |               |
//!       | himself               | asked `probes_max` times                 v  `delay`      |
//!       +--------> Stale        +------------------------------ Probe <- Delay ------------+
//! ```
//!
//! Nothing here grows after [`Neighbours::new`]. Who floods us with addresses gets so far (`eviction.rs` has the whole order):
//!
//! | flood | takes | does not touch |
//! |---|---|---|
//! | ARP requests, neighbour solicitations | places of others that were only mentioned; none if there are none | all that we ever sent something to |
//! | pings and the like, which the stack answers | those before, and those that only got answers; a sixteenth of the table at the expense of idle ones of ours | all whom we use |
//! | datagrams that an application answers | those before, and those of ours who have never proven to be there | all who have, but for a sixteenth, and idle ones up to half |
//! | advertisements of addresses that are not there | nothing | everything |

mod eviction;
mod message;
mod table;
mod waiting;

use core::net::IpAddr;
use core::time::Duration;

pub use self::message::{Ask, Change, Learned, Neighbour, Purpose, Resolution, State};
use self::table::{Entry, Key, Place, Standing, Table};
use self::waiting::Waiting;
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::stats::Reason;
use crate::time::Instant;
use crate::wire::ethernet::Mac;

/// How many neighbours, and how patient we are with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Neighbours, of all interfaces together.
    pub entries_max: usize,
    /// Packets that wait for one neighbour: RFC 4861 section 7.2.2 wants room for one at least; a datagram of 64 KiB is 45 of them.
    pub waiting_max_each: usize,
    /// Packets that wait for any.
    pub waiting_max: usize,
    /// How long an answer is believed: `REACHABLE_TIME`. RFC 4861 section 6.3.2 has it multiplied by a random number between 0.5
    /// and 1.5; that is for who makes the configuration.
    pub reachable: Duration,
    /// How long to hope for a [`Neighbours::confirm`] before asking: `DELAY_FIRST_PROBE_TIME`.
    pub delay: Duration,
    /// Between two solicitations: `RETRANS_TIMER`.
    pub retransmit: Duration,
    /// Solicitations before giving up, at least one: `MAX_MULTICAST_SOLICIT` and `MAX_UNICAST_SOLICIT`.
    pub probes_max: u8,
    /// When a neighbour is forgotten to whom nothing was sent.
    pub stale_after: Duration,
}

impl Default for NeighbourConfig {
    fn default() -> Self {
        Self {
            entries_max: 1024,
            waiting_max_each: 64,
            waiting_max: 512,
            reachable: Duration::from_secs(30),
            delay: Duration::from_secs(5),
            retransmit: Duration::from_secs(1),
            probes_max: 3,
            stale_after: Duration::from_secs(600),
        }
    }
}

/// The neighbours of a stack, and the packets that wait for them.
#[derive(Debug)]
pub struct Neighbours<P> {
    config: NeighbourConfig,
    table: Table,
    waiting: Waiting<P>,
    discarded: u64,
    displaced: u64,
    generation: u32,
}

impl<P> Neighbours<P> {
    /// Knows nobody. A `seed` that peers cannot know keeps them from choosing addresses whose hashes collide.
    #[must_use]
    pub fn new(config: NeighbourConfig, seed: u64) -> Self {
        Self {
            config,
            table: Table::new(config.entries_max, seed),
            waiting: Waiting::new(config.waiting_max),
            discarded: 0,
            displaced: 0,
            generation: 0,
        }
    }

    /// The Ethernet address to send a packet to now; marks the neighbour as used, and begins to ask for one that is not known.
    #[inline]
    pub fn resolve(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        purpose: Purpose,
    ) -> Resolution {
        let key = Key::new(interface, address);
        let Some(at) = self.table.find(&key) else {
            return self.begin(now, key, purpose);
        };
        match self.table.get(at) {
            Some(entry)
                if entry.place == Place::Reachable
                    && entry.until > now
                    && (entry.standing.ours || purpose == Purpose::Answer) =>
            {
                Resolution::Known {
                    mac: entry.mac,
                    until: entry.until,
                }
            }
            Some(_) => self.resolve_at(now, at, purpose),
            None => Resolution::Unknown,
        }
    }

    /// An entry for somebody unknown.
    #[cold]
    fn begin(&mut self, now: Instant, key: Key, purpose: Purpose) -> Resolution {
        if self.make_room(now, Some(purpose)) {
            let standing = Standing {
                ours: purpose == Purpose::Ours,
                proven: false,
            };
            self.table
                .insert(key, Mac::default(), (Place::Fresh, standing), now);
        }
        Resolution::Unknown
    }

    /// [`resolve`](Self::resolve) for entries that are not plainly Reachable.
    fn resolve_at(&mut self, now: Instant, at: u32, purpose: Purpose) -> Resolution {
        let Some(entry) = self.table.get(at) else {
            return Resolution::Unknown;
        };
        let standing = Standing {
            ours: entry.standing.ours || purpose == Purpose::Ours,
            ..entry.standing
        };
        if standing != entry.standing {
            self.table.stand(at, standing);
        }
        let Some(entry) = self.table.get_mut(at) else {
            return Resolution::Unknown;
        };
        let mac = entry.mac;
        let until = match entry.place {
            Place::Fresh | Place::Incomplete => return Resolution::Unknown,
            Place::Failed => {
                entry.asked = 0;
                self.table.put(at, Place::Fresh, now);
                return Resolution::Unknown;
            }
            Place::Reachable if entry.until > now => entry.until,
            // RFC 4861 section 7.3.3: the first packet to a stale neighbour goes out, and begins Delay.
            Place::Mentioned | Place::Stale | Place::Reachable => {
                entry.asked = 0;
                let until = now + self.config.delay;
                self.table.put(at, Place::Delay, until);
                until
            }
            // Packets go on being sent to one that is probed.
            Place::Delay | Place::Probe | Place::Static => entry.until,
        };
        // Of strangers many may come and go: nobody is to keep their addresses, so that nobody need be told.
        let is_kept = self.table.get(at).is_some_and(is_kept);
        Resolution::Known {
            mac,
            until: if is_kept { until } else { now },
        }
    }

    /// Keeps a packet for which [`resolve`](Self::resolve) has just said [`Resolution::Unknown`].
    ///
    /// If too many wait for this neighbour, the oldest of them makes room (RFC 4861 section 7.2.2, RFC 1122 section 2.3.2.2); if
    /// too many wait for all, the oldest of all: who is there has answered long before.
    ///
    /// # Errors
    ///
    /// Gives the packet that had to go, which may be an older one, and the counter to count it in.
    pub fn wait(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        packet: P,
    ) -> Result<(), (P, Reason)> {
        let Some(at) = self.table.find(&Key::new(interface, address)) else {
            return Err((packet, Reason::NeighbourTableFull));
        };
        let Some(entry) = self.table.get(at) else {
            return Err((packet, Reason::NeighbourTableFull));
        };
        if !matches!(entry.place, Place::Fresh | Place::Incomplete) {
            return Err((packet, Reason::NeighbourFailed));
        }
        let full = if entry.waiting.len() >= self.config.waiting_max_each {
            Some(at)
        } else if self.waiting.is_full() {
            self.waiting.oldest_entry()
        } else {
            None
        };
        let gone = full.and_then(|full| self.pop(full));
        if full.is_some() && gone.is_none() {
            // No room for a single one.
            return Err((packet, Reason::NeighbourQueueFull));
        }
        let Some(entry) = self.table.get_mut(at) else {
            return Err((packet, Reason::NeighbourTableFull));
        };
        match (self.waiting.push(&mut entry.waiting, at, packet), gone) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(gone)) => Err((gone, Reason::NeighbourQueueFull)),
            (Err(packet), gone) => {
                // Not possible, as something has just been taken out.
                self.discarded = self.discarded.saturating_add(gone.is_some().into());
                Err((packet, Reason::NeighbourQueueFull))
            }
        }
    }

    /// Takes note of somebody's Ethernet address. RFC 4861 section 7.2.5, and 7.2.3 for what is only mentioned; RFC 826.
    ///
    /// `creates` says whether to make an entry for somebody new, who then is Stale: for who asks for an address of ours. An
    /// advertisement without the option for the address tells no more than [`confirm`](Self::confirm), if it is solicited.
    ///
    /// Addresses that no host has on a link are ignored, like those of groups (RFC 1812 section 3.3.2).
    pub fn learn(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        mac: Mac,
        how: Learned,
        creates: bool,
    ) -> Change {
        let [first, ..] = mac.0;
        if first & 1 != 0 || mac == Mac::default() || !is_host(address) {
            return Change::Nothing;
        }
        let key = Key::new(interface, address);
        let Some(at) = self.table.find(&key) else {
            return self.create(now, key, mac, creates);
        };
        let Some(entry) = self.table.get_mut(at) else {
            return Change::Nothing;
        };
        let (place, from) = (entry.place, entry.mac);
        let answered = matches!(how, Learned::Solicited { .. });
        let overriding = match how {
            Learned::Solicited { overriding } | Learned::Unsolicited { overriding } => overriding,
            Learned::Mention => true,
        };
        if place == Place::Static {
            return Change::Nothing;
        }
        if matches!(place, Place::Fresh | Place::Incomplete | Place::Failed) {
            let asked = entry.asked > 0;
            entry.mac = mac;
            self.prove(at, answered && asked);
            self.settle(now, at, answered);
            return Change::Resolved;
        }
        let moved = mac != from;
        if moved && !overriding {
            if place == Place::Reachable {
                // Two claim the address: RFC 4861 section 7.2.5 (I). Sending to it begins to ask who it is.
                self.settle(now, at, false);
                self.bump();
            }
            return Change::Nothing;
        }
        let asked = entry.asked > 0;
        entry.mac = mac;
        if place == Place::Mentioned {
            // We never asked it anything, so it can have answered nothing: it stays the first to make room.
            self.table.put(at, place, now + self.config.stale_after);
        } else if answered || moved {
            // An answer to a question is a proof; one to none is not, and another's address is another's.
            if moved || asked {
                self.prove(at, answered && asked);
            }
            self.settle(now, at, answered);
            if moved {
                self.bump();
            }
        }
        if moved {
            Change::Moved { from }
        } else {
            Change::Nothing
        }
    }

    /// An entry for somebody whom we did not ask for.
    fn create(&mut self, now: Instant, key: Key, mac: Mac, creates: bool) -> Change {
        if !creates {
            return Change::Nothing;
        }
        let until = now + self.config.stale_after;
        let room = self.make_room(now, None);
        let place = (Place::Mentioned, Standing::STRANGER);
        match room.then(|| self.table.insert(key, mac, place, until)) {
            Some(Some(_)) => Change::Created,
            _ => Change::Full,
        }
    }

    /// Notes whether somebody has proven to be there.
    fn prove(&mut self, at: u32, proven: bool) {
        if let Some(entry) = self.table.get(at)
            && entry.standing.proven != proven
        {
            let standing = Standing {
                proven,
                ..entry.standing
            };
            self.table.stand(at, standing);
        }
    }

    /// Makes an entry whose address is known Reachable or Stale.
    fn settle(&mut self, now: Instant, at: u32, reachable: bool) {
        if let Some(entry) = self.table.get_mut(at) {
            entry.asked = 0;
        }
        if reachable {
            self.table
                .put(at, Place::Reachable, now + self.config.reachable);
        } else {
            self.table
                .put(at, Place::Stale, now + self.config.stale_after);
        }
    }

    /// The oldest packet that waits for somebody; to be sent after [`Change::Resolved`], to be dropped after [`Ask::Failed`].
    pub fn take_waiting(&mut self, interface: InterfaceId, address: IpAddr) -> Option<P> {
        let at = self.table.find(&Key::new(interface, address))?;
        let packet = self.pop(at);
        let entry = self.table.get(at)?;
        if entry.place == Place::Failed && entry.waiting.is_empty() {
            self.table.remove(at);
        }
        packet
    }

    /// An upper layer has a sign that somebody gets our packets: new data acknowledged. RFC 4861 section 7.3.1.
    pub fn confirm(&mut self, now: Instant, interface: InterfaceId, address: IpAddr) {
        let Some(at) = self.table.find(&Key::new(interface, address)) else {
            return;
        };
        // Who was only mentioned got no packet, so the sign came from somebody else.
        if let Some(entry) = self.table.get(at)
            && let Place::Stale | Place::Reachable | Place::Delay | Place::Probe = entry.place
        {
            self.prove(at, true);
            self.settle(now, at, true);
        }
    }

    /// Sets somebody's Ethernet address for good. If packets wait for him, [take](Self::take_waiting) them.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], if no entry may make room.
    pub fn set_static(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), Error> {
        let key = Key::new(interface, address);
        if let Some(at) = self.table.find(&key) {
            if let Some(entry) = self.table.get_mut(at) {
                entry.mac = mac;
            }
            self.table.stand(at, Standing::PROVEN);
            self.table.put(at, Place::Static, Instant::MAX);
            self.bump();
            return Ok(());
        }
        let room = self.make_room(now, Some(Purpose::Ours));
        let place = (Place::Static, Standing::PROVEN);
        let added = room.then(|| self.table.insert(key, mac, place, Instant::MAX));
        match added.flatten() {
            Some(_) => Ok(()),
            None => Err(Error::Full {
                what: "neighbours",
                max: self.table.max(),
                key: "neighbours.entries_max",
            }),
        }
    }

    /// Forgets somebody, static or not, and says whether he was known. Packets that wait for him are [discarded](Self::take_discarded).
    pub fn remove(&mut self, interface: InterfaceId, address: IpAddr) -> bool {
        let found = self.table.find(&Key::new(interface, address));
        if let Some(at) = found {
            self.discard(at);
        }
        found.is_some()
    }

    /// Forgets everybody on an interface who is not static, and what waits for them: the link went down.
    pub fn flush(&mut self, interface: InterfaceId) {
        for at in self.table.numbers() {
            if let Some(entry) = self.table.live(at)
                && entry.key().interface() == interface
                && entry.place != Place::Static
            {
                self.discard(at);
            }
        }
    }

    /// What is to be done now, if anything; to be called until there is nothing left.
    ///
    /// What still waits for the neighbour of an earlier [`Ask::Failed`] is [discarded](Self::take_discarded).
    pub fn poll(&mut self, now: Instant) -> Option<Ask> {
        while let Some(at) = self.table.due(Place::Failed, Instant::MAX) {
            self.discard(at);
        }
        self.age(now);
        for place in [Place::Fresh, Place::Incomplete, Place::Delay, Place::Probe] {
            if let Some(at) = self.table.due(place, now) {
                return self.ask(now, at);
            }
        }
        None
    }

    /// When [`poll`](Self::poll) is to be called, if at all.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.table.next_due()
    }

    /// A number that moves whenever a [`Resolution::Known`] may no longer hold.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// How many packets were dropped since the last call with an entry that went before it was known; [`Reason::NeighbourTableFull`].
    #[must_use]
    pub fn take_discarded(&mut self) -> u64 {
        core::mem::take(&mut self.discarded)
    }

    /// How many entries have made room for others.
    #[must_use]
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// Somebody's Ethernet address, if it is known; without marking him as used.
    #[must_use]
    pub fn lookup(&self, interface: InterfaceId, address: IpAddr) -> Option<Mac> {
        let at = self.table.find(&Key::new(interface, address))?;
        view(self.table.get(at)?).mac
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nobody is known or asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many packets wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Neighbour> {
        self.table.iter().map(view)
    }

    /// Has somebody asked for who is due, or gives him up.
    fn ask(&mut self, now: Instant, at: u32) -> Option<Ask> {
        let entry = self.table.get_mut(at)?;
        let (interface, address) = (entry.key().interface(), entry.key().address());
        let begins = matches!(entry.place, Place::Fresh | Place::Delay);
        let known = matches!(entry.place, Place::Delay | Place::Probe);
        if !begins && entry.asked >= self.config.probes_max {
            // RFC 4861 section 7.2.2: what waits is reported; section 7.3.3: the entry goes, so that the next packet asks all.
            if entry.waiting.is_empty() {
                self.discard(at);
            } else {
                self.table.put(at, Place::Failed, now);
            }
            return Some(Ask::Failed { interface, address });
        }
        entry.asked = if begins {
            1
        } else {
            entry.asked.saturating_add(1)
        };
        let mac = known.then_some(entry.mac);
        let place = if known {
            Place::Probe
        } else {
            Place::Incomplete
        };
        self.table.put(at, place, now + self.config.retransmit);
        Some(Ask::Solicit {
            interface,
            address,
            mac,
            first: begins,
        })
    }

    /// Lets time pass for those who are not asked.
    fn age(&mut self, now: Instant) {
        while let Some(at) = self.table.due(Place::Reachable, now) {
            self.settle(now, at, false);
        }
        for place in [Place::Stale, Place::Mentioned] {
            while let Some(at) = self.table.due(place, now) {
                self.discard(at);
            }
        }
    }

    /// Sees to it that there is room for one more, whose address is wanted for a purpose, or who was only mentioned.
    fn make_room(&mut self, now: Instant, purpose: Option<Purpose>) -> bool {
        if !self.table.is_full() {
            return true;
        }
        self.age(now);
        if self.table.is_full()
            && let Some(at) = self.table.victim(purpose)
        {
            self.displaced = self.displaced.saturating_add(1);
            self.discard(at);
        }
        !self.table.is_full()
    }

    /// The oldest packet that waits for an entry.
    fn pop(&mut self, at: u32) -> Option<P> {
        let entry = self.table.get_mut(at)?;
        self.waiting.pop(&mut entry.waiting)
    }

    /// Removes an entry and what waits for it.
    fn discard(&mut self, at: u32) {
        while self.pop(at).is_some() {
            self.discarded = self.discarded.saturating_add(1);
        }
        // Answers about others hold no longer than until they are left.
        if self.table.get(at).is_some_and(is_kept) {
            self.bump();
        }
        self.table.remove(at);
    }

    fn bump(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

/// Whether somebody may have kept what [`Neighbours::resolve`] said of an entry.
fn is_kept(entry: &Entry) -> bool {
    match entry.place {
        Place::Reachable | Place::Static => true,
        Place::Delay | Place::Probe => entry.standing != Standing::STRANGER,
        Place::Fresh | Place::Incomplete | Place::Failed | Place::Mentioned | Place::Stale => false,
    }
}

/// What tools see of an entry.
fn view(entry: &Entry) -> Neighbour {
    let (state, known) = match entry.place {
        Place::Fresh | Place::Incomplete | Place::Failed => (State::Incomplete, false),
        Place::Mentioned | Place::Stale => (State::Stale, true),
        Place::Reachable => (State::Reachable, true),
        Place::Delay => (State::Delay, true),
        Place::Probe => (State::Probe, true),
        Place::Static => (State::Static, true),
    };
    Neighbour {
        interface: entry.key().interface(),
        address: entry.key().address(),
        mac: known.then_some(entry.mac),
        state,
        waiting: entry.waiting.len(),
        ours: entry.standing.ours,
        proven: entry.standing.proven,
    }
}

/// Whether a host on a link can have the address.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(broadcast || address.is_multicast() || address.is_unspecified() || address.is_loopback())
}

#[cfg(test)]
mod tests;

//! The members of a group, as the primary's control thread has them: each a connection that stays
//! open, and a pidfd.
//!
//! ```text
//! joined --Offer...--> --Ready--> ready        connection closed: rings the bell, and watches on
//!                                              pidfd ready: dead; its slots are proven so; rings
//! ```
//!
//! A closed connection proves nothing: the process may be dying and still have its lock, or have
//! been cut off for what it sent. So one that has not said that it leaves is watched further by its
//! pidfd, without a connection. Where the kernel gives no pidfd, the bell is rung some times more,
//! and the locks alone decide.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tracing::{debug, info, warn};

use super::OFFERED_MAX;
use super::body::{Offer, decode_owners};
use super::frame::{Frame, Kind, MESSAGE_MAX};
use super::hall::Hall;
use super::lobby::Presence;
use super::wire::{self, Received};
use crate::keeper;
use crate::process::{Owner, SLOTS_MAX, SlotState};
use crate::region::Region;
use crate::sys::control::{Peer, PeerProcess, peer_process};

/// Members at a time: each process of a group, and as many that have no slot.
const MEMBERS_MAX: usize = 128;
/// Members of one process: a program may join a group more than once.
const MEMBERS_OF_ONE_MAX: usize = 8;
/// Messages read of one member before the others get their turn.
const BURST: usize = 32;
/// Messages a member may have sent when it is ready: what it keeps, and changes of its slots.
const MESSAGES_MAX: usize = OFFERED_MAX + 256;
/// How long the bell is rung for one that has no pidfd: the kernel takes that long to end a process
/// at most, as a rule.
const DYING_MAX: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: Vec<Member>,
    /// How many there have been.
    count: u64,
}

/// One of them.
#[derive(Debug)]
struct Member {
    number: u64,
    peer: Peer,
    /// None: it has closed, or was cut off.
    socket: Option<OwnedFd>,
    process: Option<OwnedFd>,
    owners: Vec<Owner>,
    ready: bool,
    /// It has said that it leaves.
    leaves: bool,
    /// The revision that it was told of last.
    told: u64,
    messages: usize,
    /// When to ring next, and how long to wait after that.
    look: Option<(Instant, Duration)>,
}

/// What `poll` found of one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stirred {
    socket: bool,
    process: bool,
}

/// Why a member is cut off.
enum Cut {
    Closed,
    Nonsense(String),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Nonsense(error.to_string()),
        }
    }
}

impl Members {
    /// Takes one in; says why not.
    pub(super) fn join(
        &mut self,
        hall: &Hall,
        (socket, peer): (OwnedFd, Peer),
        owners: Vec<Owner>,
    ) -> Result<(), (OwnedFd, &'static str)> {
        if self.all.len() >= MEMBERS_MAX {
            return Err((socket, "too many processes have joined; stop some"));
        }
        let of_it = self.all.iter().filter(|member| member.peer.pid == peer.pid);
        if peer.pid != 0 && of_it.count() >= MEMBERS_OF_ONE_MAX {
            return Err((socket, "this process has joined too often"));
        }
        let process = match peer_process(socket.as_fd(), peer) {
            PeerProcess::Alive(process) => Some(process),
            PeerProcess::Dead => {
                self.bury(hall, peer, &owners);
                return Ok(());
            }
            PeerProcess::Unknown => None,
        };
        self.count += 1;
        debug!("process {} has joined", peer.pid);
        let member = Member {
            number: self.count,
            peer,
            socket: Some(socket),
            process,
            owners,
            ready: false,
            leaves: false,
            told: 0,
            messages: 0,
            look: None,
        };
        member.enter(hall);
        self.all.push(member);
        Ok(())
    }

    /// What is to be watched, in the order that [`turn`](Self::turn) expects.
    pub(super) fn sources(&self, latest: u64) -> impl Iterator<Item = PollFd<'_>> {
        self.all.iter().flat_map(move |member| {
            let wanted = if member.told < latest {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            let socket = member.socket.as_ref();
            let socket = socket.map(|socket| PollFd::new(socket, wanted));
            let process = member.process.as_ref();
            let process = process.map(|process| PollFd::new(process, PollFlags::IN));
            socket.into_iter().chain(process)
        })
    }

    /// Takes apart what `poll` said of the [`sources`](Self::sources).
    pub(super) fn stirred(&self, mut ready: impl Iterator<Item = bool>) -> Vec<Stirred> {
        let mut next = |there: bool| there && ready.next().unwrap_or(false);
        self.all
            .iter()
            .map(|member| Stirred {
                socket: next(member.socket.is_some()),
                process: next(member.process.is_some()),
            })
            .collect()
    }

    /// When the next look is due.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let looks = self.all.iter().filter_map(|member| member.look);
        looks.map(|(at, _)| at).min()
    }

    /// Gives each its turn.
    pub(super) fn turn(&mut self, hall: &Hall, stirred: &[Stirred]) {
        let (now, latest) = (Instant::now(), hall.table.revision());
        let mut dead = Vec::new();
        let mut turn = stirred.iter().copied();
        self.all.retain_mut(|member| {
            let stirred = turn.next().unwrap_or_default();
            if stirred.socket {
                member.listen(hall, stirred.process);
            }
            if stirred.process {
                hall.lobby.leave(member.number);
                dead.push((member.peer, std::mem::take(&mut member.owners)));
                return false;
            }
            member.tell(hall, latest);
            let stays = member.socket.is_some() || member.is_watched(hall, now);
            if !stays {
                debug!("process {} has left", member.peer.pid);
            }
            stays
        });
        self.merge();
        for (peer, owners) in dead {
            self.bury(hall, peer, &owners);
        }
    }

    /// Watches a process that has no connection once, however often it was cut off.
    fn merge(&mut self) {
        let mut watched: Vec<Member> = Vec::new();
        let mut at = 0;
        while let Some(member) = self.all.get(at) {
            let is_watched = member.socket.is_none() && member.process.is_some();
            if !is_watched || member.peer.pid == 0 {
                at += 1;
                continue;
            }
            let member = self.all.remove(at);
            // Neither pidfd was ready, so the two live, and one number is one process.
            match watched.iter_mut().find(|one| one.peer == member.peer) {
                Some(one) => {
                    let told = &member.owners;
                    one.owners.retain(|owner| !told.contains(owner));
                    one.owners.extend(told);
                    // The latest: a process that lies may have said anything.
                    let excess = one.owners.len().saturating_sub(SLOTS_MAX);
                    one.owners.drain(..excess);
                }
                None => watched.push(member),
            }
        }
        self.all.extend(watched);
    }

    /// Sees to it that all slots of a dead process are known as such.
    fn bury(&self, hall: &Hall, peer: Peer, owners: &[Owner]) {
        // A slot that another says is its own is not proven: one of the two does not tell the truth.
        let is_anothers =
            |owner: &Owner| self.all.iter().any(|member| member.owners.contains(owner));
        // What it gave back before is nobody's, and what is not locked is plain to everybody.
        let kept: Vec<Owner> = owners
            .iter()
            .copied()
            .filter(|owner| hall.region.owner_alive(*owner) && !is_anothers(owner))
            .collect();
        for owner in &kept {
            hall.region.prove_dead(*owner);
        }
        debug!("process {} is dead", peer.pid);
        hall.bell.ring();
        if !kept.is_empty() {
            name_keepers(hall.region, peer, &kept);
        }
    }
}

impl Member {
    fn enter(&self, hall: &Hall) {
        let presence = Presence {
            pid: self.peer.pid,
            ready: self.ready,
            owners: self.owners.clone(),
        };
        hall.lobby.enter(self.number, presence);
    }

    /// Reads what it says: a burst, or of a dead one all.
    fn listen(&mut self, hall: &Hall, dead: bool) {
        let burst = if dead { MESSAGES_MAX } else { BURST };
        for _ in 0..burst {
            let Some(socket) = &self.socket else { return };
            let cut = match wire::receive(socket.as_fd(), MESSAGE_MAX) {
                Err(error) if wire::is_later(&error) => return,
                Ok(received) if !received.bytes.is_empty() => match self.hear(hall, received) {
                    Ok(()) => continue,
                    Err(why) => Cut::Nonsense(why),
                },
                Ok(_) => Cut::Closed,
                Err(error) => error.into(),
            };
            self.cut_off(hall, &cut);
        }
    }

    /// One message; says what is wrong with it.
    fn hear(&mut self, hall: &Hall, received: Received) -> Result<(), String> {
        let Received { bytes, descriptors } = received;
        let frame = Frame::decode(&bytes).map_err(|error| error.to_string())?;
        if !self.ready {
            self.messages += 1;
            if self.messages > MESSAGES_MAX {
                return Err("it offers too much".to_owned());
            }
        }
        match frame.kind {
            Kind::Offer if !self.ready => {
                let offer = Offer::decode(frame.body).ok_or("that is no offer")?;
                self.take(hall, offer, (frame.descriptors, descriptors));
            }
            Kind::Ready if !self.ready => {
                self.ready = true;
                info!("process {} has joined this primary", self.peer.pid);
                self.enter(hall);
            }
            Kind::Slots => {
                self.owners = decode_owners(frame.body).ok_or("those are no slots")?;
                self.enter(hall);
            }
            Kind::Leave => self.leaves = true,
            kind => return Err(format!("{kind:?} has no place here")),
        }
        Ok(())
    }

    /// Something offered. What cannot be held is closed, and somebody opens it anew.
    fn take(&self, hall: &Hall, offer: Offer<'_>, (sent, descriptors): (usize, Vec<OwnedFd>)) {
        let Offer {
            revision,
            key,
            payload,
        } = offer;
        // This primary has published or withdrawn it itself.
        if hall.table.find(key).is_some() {
            return;
        }
        let arrived = descriptors.len();
        let outcome = if arrived == sent {
            let handed = (payload.to_vec(), descriptors);
            hall.lobby.hold(key, revision, handed)
        } else {
            Err("not all of its descriptors arrived; raise `ulimit -n`")
        };
        if let Err(why) = outcome {
            let pid = self.peer.pid;
            warn!("{key:?}, which process {pid} offers, is not taken over: {why}");
        }
        // Published while it was taken in: whoever did has looked for an offer to forget before.
        if hall.table.find(key).is_some() {
            hall.lobby.forget(key);
        }
    }

    /// Tells it what has changed, if it listens; otherwise all of it later.
    fn tell(&mut self, hall: &Hall, latest: u64) {
        while self.told < latest {
            let Some(socket) = &self.socket else { return };
            let (keys, up_to) = hall.table.changed_since(self.told);
            if !keys.is_empty() {
                let message = Frame::plain(Kind::Changed, &keys);
                match wire::send(socket.as_fd(), &message, &[]).map_err(io::Error::from) {
                    Ok(()) => {}
                    Err(error) if wire::is_later(&error) => return,
                    Err(error) => return self.cut_off(hall, &error.into()),
                }
            }
            self.told = up_to.max(self.told);
        }
    }

    /// Closes its connection; the process may live on.
    fn cut_off(&mut self, hall: &Hall, cut: &Cut) {
        if let Cut::Nonsense(why) = cut {
            let pid = self.peer.pid;
            warn!("process {pid} is cut off from the control socket: {why}");
        }
        self.socket = None;
        hall.lobby.leave(self.number);
        if self.process.is_none() {
            let first = Duration::from_millis(1);
            self.look = Some((Instant::now() + first, first * 2));
        }
        hall.bell.ring();
    }

    /// Whether one without a connection is still to be watched; rings when its time has come.
    fn is_watched(&mut self, hall: &Hall, now: Instant) -> bool {
        if let Some((at, next)) = self.look
            && at <= now
        {
            hall.bell.ring();
            self.look = Some((now + next, next * 2));
            return next <= DYING_MAX;
        }
        // Without a pidfd there are the looks.
        !self.leaves || self.process.is_none() || self.has_slots(hall.region)
    }

    /// Whether a slot is still its own. Given back slots are not; those of the dead are LIVE until
    /// they are swept.
    fn has_slots(&self, region: &Region) -> bool {
        self.owners.iter().any(|owner| {
            owner.slot().is_some_and(|slot| {
                let state = region.slots()[slot.index()].state();
                state == (SlotState::Live, owner.generation())
            })
        })
    }
}

/// Says who keeps the lock of a dead process, if that can be seen.
fn name_keepers(region: &Region, peer: Peer, kept: &[Owner]) {
    let Some(directory) = region.directory() else {
        return;
    };
    let slots: Vec<_> = kept.iter().filter_map(|owner| owner.slot()).collect();
    let Some(first) = slots.first() else { return };
    let list: Vec<String> = slots.iter().map(ToString::to_string).collect();
    // A process that is just being started keeps it for some microseconds: then nobody is found.
    for keeper in keeper::of_slot(directory, *first) {
        warn!(
            "process {} is dead, but process {} ({}), which it forked, keeps its lock; what it held is \
             taken back, but its slots ({}) stay taken until that one ends: `kill {}`",
            peer.pid,
            keeper.pid,
            keeper.name,
            list.join(", "),
            keeper.pid
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::control::tests::hall;
    use crate::sys::control::peer;

    /// Members of which one has joined, and its end of the connection.
    fn joined(hall: &Arc<Hall>) -> (Members, OwnedFd) {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::NONBLOCK);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let who = peer(ours.as_fd()).unwrap();
        let mut members = Members::default();
        members.join(hall, (ours, who), Vec::new()).unwrap();
        (members, theirs)
    }

    fn hear(members: &mut Members, hall: &Hall) {
        let stirred = Stirred {
            socket: true,
            process: false,
        };
        members.turn(hall, &[stirred]);
    }

    #[test]
    fn who_closes_without_a_word_is_watched_until_dead_and_who_leaves_is_not() {
        let hall = hall(true);
        let (mut members, theirs) = joined(&hall);
        drop(theirs);
        hear(&mut members, &hall);
        assert_eq!(members.sources(0).count(), 1, "its pidfd");
        let dead = Stirred {
            socket: false,
            process: true,
        };
        members.turn(&hall, &[dead]);
        assert_eq!(members.sources(0).count(), 0);

        let (mut members, theirs) = joined(&hall);
        wire::send(theirs.as_fd(), &Frame::plain(Kind::Leave, b""), &[]).unwrap();
        drop(theirs);
        hear(&mut members, &hall);
        assert_eq!(members.sources(0).count(), 0);
    }

    #[test]
    fn without_a_pidfd_the_bell_is_rung_a_few_times_and_that_is_all() {
        let hall = hall(true);
        let (mut members, theirs) = joined(&hall);
        members.all[0].process = None;
        drop(theirs);
        hear(&mut members, &hall);
        let mut looks = 0;
        while let Some(at) = members.next_look() {
            let (_, next) = members.all[0].look.unwrap();
            members.all[0].look = Some((at - DYING_MAX * 4, next));
            members.turn(&hall, &[]);
            looks += 1;
        }
        assert!(
            (5..20).contains(&looks) && members.all.is_empty(),
            "{looks}"
        );
    }
}

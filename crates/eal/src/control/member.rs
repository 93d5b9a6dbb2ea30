//! The thread of a secondary that stays connected to the primary, whichever that is.
//!
//! ```text
//! no primary --connect--> Join, Offer, Offer ..., Ready --> sleeps until: Changed     fetches what it keeps
//!      ^                                                                  wake        says its slots; stops
//!      +------------- the connection closes, or the primary's pidfd ------+
//! ```
//!
//! It blocks in `poll` alone. Where there is no primary it looks for one every few milliseconds, later
//! less often. It does not watch the directory: closing a watch takes the kernel up to seconds, in which a
//! killed process would keep its lock.
//!
//! **If a process dies:** a child that the primary forked may keep the connection open, so the
//! primary's pidfd is watched too. This thread dies with its process, and the primary sees that
//! the same way.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::{debug, info, warn};

use super::body::{Offer, decode_keys, encode_owners};
use super::client::{Client, Primary};
use super::deaths::Bell;
use super::frame::{Frame, Kind, MESSAGE_MAX};
use super::lobby::own_slots;
use super::wire::{self, printable};
use crate::error::Error;
use crate::region::Region;

/// How often a primary is looked for, at some microseconds a look.
const LOOK: Duration = Duration::from_millis(4);
/// How often after it has been away for [`LONG`].
const LOOK_LATER: Duration = Duration::from_millis(25);
const LONG: Duration = Duration::from_secs(10);
/// How long after the primary refused us, or gave no answer, we try again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long after the kernel had no room for descriptors on their way.
const NO_ROOM: Duration = Duration::from_millis(1);

/// The thread. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Member {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Of this process: a forked child has no such thread.
    pid: u32,
}

#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    region: &'static Region,
    bell: Arc<Bell>,
    /// Whether the slots of this process are others than those that were told.
    slots: AtomicBool,
}

impl Member {
    /// Joins the primary, if there is one that takes connections, and starts the thread. So whoever
    /// takes a slot afterwards is a member by then, and heard of when it dies.
    pub(super) fn start(
        client: Arc<Client>,
        region: &'static Region,
        bell: Arc<Bell>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            client,
            region,
            bell,
            slots: AtomicBool::new(false),
        });
        let its = Arc::clone(&shared);
        let first = shared.client.connect().ok();
        let first = first.and_then(|primary| Connected::open(&its, primary).ok());
        let first = first.map(|connected| connected.primary);
        let thread = std::thread::Builder::new()
            .name("forebay-member".to_owned())
            .spawn(move || its.run(first))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            pid: std::process::id(),
        })
    }

    /// The primary is to be told which slots are ours.
    pub(crate) fn tell_slots(&self) {
        // Release: the slot is ours before. Pairs with the Acquire in `Connected::wake`.
        self.shared.slots.store(true, Ordering::Release);
        self.shared.client.wake.ring();
    }

    /// Ends the thread.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if self.pid == std::process::id() {
            self.shared.client.wake.stop();
            if thread.join().is_err() {
                warn!("the thread that stays connected to the primary panicked");
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// This process leaves.
    Stop,
    /// The primary is gone, or has hung up.
    Gone,
    /// The primary does not want us.
    Refused(String),
}

impl Shared {
    /// `first`: the connection that has joined already.
    fn run(&self, mut first: Option<Primary>) {
        let wake = &self.client.wake;
        // What was told last, so that nothing is told twice.
        let (mut refused, mut had_one) = (String::new(), false);
        let mut gone = Instant::now();
        while !wake.is_stopped() {
            let connected = match first.take() {
                Some(primary) => Ok(Connected::new(self, primary)),
                None => self
                    .client
                    .connect()
                    .and_then(|primary| Connected::open(self, primary)),
            };
            let pause = match connected {
                Ok(mut connected) => match connected.serve(&mut had_one) {
                    End::Stop => return,
                    End::Gone => {
                        gone = Instant::now();
                        LOOK
                    }
                    End::Refused(why) => {
                        if why != refused {
                            warn!("the primary does not let this process join: {why}");
                            refused = why;
                        }
                        AGAIN
                    }
                },
                Err(error) => match error.kind() {
                    io::ErrorKind::PermissionDenied => AGAIN,
                    _ if gone.elapsed() > LONG => LOOK_LATER,
                    _ => LOOK,
                },
            };
            self.pause(pause);
        }
    }

    /// Sleeps that long, or until we are told to stop.
    fn pause(&self, how_long: Duration) {
        let wake = &self.client.wake;
        wake.drain();
        if wake.is_stopped() {
            return;
        }
        let timeout = Timespec::try_from(how_long).ok();
        let _ = poll(&mut [PollFd::new(wake, PollFlags::IN)], timeout.as_ref());
    }
}

/// What is still to be said.
#[derive(Debug)]
enum Say {
    Offer(String),
    Ready,
    Slots,
    Leave,
}

/// The thread while there is a primary.
#[derive(Debug)]
struct Connected<'a> {
    shared: &'a Shared,
    primary: Primary,
    outgoing: VecDeque<Say>,
    /// Nothing is sent before.
    send_at: Option<Instant>,
    /// Nothing is fetched before.
    fetch_at: Option<Instant>,
    joined: bool,
}

impl<'a> Connected<'a> {
    /// Joins: that is the first message, for which there is always room.
    fn open(shared: &'a Shared, primary: Primary) -> io::Result<Self> {
        let slots = encode_owners(&own_slots(shared.region));
        let join = Frame::plain(Kind::Join, &slots);
        wire::send(primary.socket.as_fd(), &join, &[])?;
        Ok(Self::new(shared, primary))
    }

    /// On a connection that has joined.
    fn new(shared: &'a Shared, primary: Primary) -> Self {
        let offers = shared.client.kept.keys().into_iter().map(Say::Offer);
        Self {
            shared,
            primary,
            outgoing: offers.chain([Say::Ready]).collect(),
            send_at: None,
            fetch_at: None,
            joined: false,
        }
    }

    /// Until the connection ends. `had_one`: there was a primary before.
    fn serve(&mut self, had_one: &mut bool) -> End {
        let end = loop {
            let outcome = self.sleep().and_then(|()| self.work(had_one));
            match outcome {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) if wire::is_later(&error) => {}
                Err(error) => {
                    debug!("the connection to the primary ended: {error}");
                    break End::Gone;
                }
            }
        };
        if self.joined && matches!(end, End::Gone) {
            info!(
                "the primary of this group is gone; this process goes on and looks for the next one"
            );
            self.shared.bell.ring();
        }
        end
    }

    /// Until there is something to do.
    fn sleep(&self) -> io::Result<()> {
        let now = Instant::now();
        let may_send = self.send_at.is_none_or(|at| at <= now) && !self.outgoing.is_empty();
        let wanted = if may_send {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let mut sources = vec![
            PollFd::new(&self.primary.socket, wanted),
            PollFd::new(&self.shared.client.wake, PollFlags::IN),
        ];
        let process = self.primary.process.as_ref();
        sources.extend(process.map(|process| PollFd::new(process, PollFlags::IN)));
        let send_at = self.send_at.filter(|_| !self.outgoing.is_empty());
        let timeout = send_at
            .into_iter()
            .chain(self.fetch_at)
            .min()
            .and_then(|at| Timespec::try_from(at.saturating_duration_since(now)).ok());
        poll(&mut sources, timeout.as_ref())?;
        let died = sources
            .get(2)
            .is_some_and(|process| !process.revents().is_empty());
        if died {
            // Nothing that it said before would change what we do.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// All that can be done without waiting.
    fn work(&mut self, had_one: &mut bool) -> io::Result<Option<End>> {
        let wake = &self.shared.client.wake;
        wake.drain();
        if wake.is_stopped() {
            // If there is no room for it the primary waits for our death, which harms nobody.
            let _ = self.say(&Say::Leave);
            return Ok(Some(End::Stop));
        }
        // Acquire: pairs with the Release in `tell_slots`.
        let is_new = self.shared.slots.swap(false, Ordering::Acquire);
        if is_new && !matches!(self.outgoing.back(), Some(Say::Slots)) {
            self.outgoing.push_back(Say::Slots);
        }
        if let Some(end) = self.listen()? {
            return Ok(Some(end));
        }
        self.send()?;
        // The primary may wait for all offers, so those come first.
        if self.outgoing.is_empty() {
            if !self.joined {
                self.joined = true;
                if std::mem::replace(had_one, true) {
                    info!("the group has a primary again");
                }
                self.shared.bell.ring();
            }
            return Ok(self.fetch());
        }
        Ok(None)
    }

    /// Hears what the primary says.
    fn listen(&self) -> io::Result<Option<End>> {
        loop {
            let received = match wire::receive(self.primary.socket.as_fd(), MESSAGE_MAX) {
                Ok(received) => received,
                Err(error) if wire::is_later(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            if received.bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match Frame::decode(&received.bytes) {
                Ok(frame) if frame.kind == Kind::Changed => {
                    for key in decode_keys(frame.body) {
                        self.shared.client.kept.set_stale(key, true);
                    }
                }
                Ok(frame) if frame.kind == Kind::Refused => {
                    return Ok(Some(End::Refused(printable(frame.body))));
                }
                Ok(frame) => return Ok(Some(End::Refused(format!("it says {:?}", frame.kind)))),
                Err(error) => return Ok(Some(End::Refused(error.to_string()))),
            }
        }
    }

    /// Says what is to be said, as long as the primary listens.
    fn send(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.send_at.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.send_at = None;
        while let Some(say) = self.outgoing.front() {
            match self.say(say) {
                Ok(()) => {
                    self.outgoing.pop_front();
                }
                // As many descriptors are on their way as a user may have.
                Err(Errno::TOOMANYREFS) => {
                    self.send_at = Some(now + NO_ROOM);
                    return Ok(());
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn say(&self, say: &Say) -> Result<(), Errno> {
        let socket = self.primary.socket.as_fd();
        let plain = |kind, body: &[u8]| wire::send(socket, &Frame::plain(kind, body), &[]);
        match say {
            Say::Slots => plain(Kind::Slots, &encode_owners(&own_slots(self.shared.region))),
            Say::Ready => plain(Kind::Ready, b""),
            Say::Leave => plain(Kind::Leave, b""),
            Say::Offer(key) => {
                // Withdrawn meanwhile.
                let Some(copy) = self.shared.client.kept.find(key) else {
                    return Ok(());
                };
                let offer = Offer {
                    revision: copy.revision,
                    key,
                    payload: &copy.payload,
                };
                let frame = Frame {
                    kind: Kind::Offer,
                    descriptors: copy.descriptors.len(),
                    body: &offer.encode(),
                };
                wire::send(socket, &frame.encode(), &copy.descriptors)
            }
        }
    }

    /// Fetches anew what has changed.
    fn fetch(&mut self) -> Option<End> {
        let client = &self.shared.client;
        if self.fetch_at.is_some_and(|at| at > Instant::now()) {
            return None;
        }
        self.fetch_at = None;
        for key in client.kept.stale() {
            let outcome = client.refresh(&key, Some(&client.wake));
            // Fetching listens to it too, and must not swallow what else it tells.
            client.wake.ring();
            match outcome {
                Ok(()) => debug!("{key:?} was fetched to be kept"),
                // Before it sleeps again it looks.
                Err(_) if client.wake.is_stopped() => return None,
                // The connection says so at once.
                Err(Error::PrimaryGone { .. }) => return None,
                Err(error) => {
                    debug!("{key:?} is not kept: {error}");
                    self.fetch_at = Some(Instant::now() + AGAIN);
                    return None;
                }
            }
        }
        None
    }
}

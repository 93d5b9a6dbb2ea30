//! The environment of a process, assembled: arguments, cores, role, region, control socket.
//!
//! ```no_run
//! use eal::{Eal, EalArgs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (args, _ours) = EalArgs::parse(std::env::args())?;
//! let eal = Eal::init(args)?;
//! eal.pin_main()?;
//! let workers: Result<Vec<_>, _> =
//!     eal.worker_lcores().into_iter().map(|lcore| eal.launch(lcore, move || lcore)).collect();
//! for worker in workers? {
//!     println!("lcore {} is done", worker.wait()?);
//! }
//! eal.cleanup()?;
//! # Ok(())
//! # }
//! ```

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use crate::args::EalArgs;
use crate::barrier;
use crate::control::{Bell, Control, Deaths, Handed, Thread};
use crate::core::{LcoreId, LcoreMap, available_cpus};
use crate::error::Error;
use crate::launch::{LcoreHandle, Lcores};
use crate::process::{ProcType, Slot};
use crate::region::{Joined, Region, RegionConfig};

/// How long a secondary waits in silence before it says that it waits.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// What a program gets from [`Eal::init`] and gives back with [`Eal::cleanup`].
///
/// All but `cleanup` take `&self`, so that threads may share it in an `Arc`. Dropping it does what
/// `cleanup` does, without a word if that fails.
#[derive(Debug)]
pub struct Eal {
    args: EalArgs,
    region: &'static Region,
    lcores: Lcores,
    joined: Joined,
    control: Control,
    /// What keeps the control socket, until this process leaves. None in private memory.
    thread: Mutex<Option<Thread>>,
    /// Rung when another process of the group dies or leaves.
    bell: Arc<Bell>,
    left: AtomicBool,
}

impl Eal {
    /// Places the lcores, finds the role, and creates or joins the group.
    ///
    /// `--proc-type=auto` becomes the primary if there is none. A secondary joins a group whose
    /// primary has died too, and waits for one that is not there as long as `--wait` says. The
    /// region stays mapped until the process ends.
    ///
    /// Call it before the first thread is started, or [`barrier::register`] at least: later that takes the kernel some ten
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// Says what is missing or who is in the way, and what to do about it: [`Error::NoGroup`],
    /// [`Error::SecondPrimary`], [`Error::NoLcore`] for a main lcore that is not there, and more.
    pub fn init(args: EalArgs) -> Result<Self, Error> {
        for notice in &args.notices {
            info!("{notice}");
        }
        let available = available_cpus().map_err(|source| Error::Cpus { source })?;
        let map = args.lcores.place(&available);
        let described = map.describe(available.len());
        let main = args.main_lcore.or(map.first()).unwrap_or(LcoreId(0));
        let lcores = Lcores::new(map, main)?;
        info!("{described}");
        if let Err(error) = barrier::register() {
            info!(
                "the kernel registers no memory barriers for this process ({error}); sending to other processes costs a little more"
            );
        }
        let (region, joined) = join(&args, lcores.map().cpus(main))?;
        let region: &'static Region = Box::leak(Box::new(region));
        let bell = Arc::new(Bell::default());
        let started = connect(&args.prefix, (region, joined), &bell);
        let (control, thread) = started.inspect_err(|_| {
            // The error that is told is the first one.
            let _ = region.leave();
        })?;
        Ok(Self {
            args,
            region,
            lcores,
            joined,
            control,
            thread: Mutex::new(thread),
            bell,
            left: AtomicBool::new(false),
        })
    }

    /// The role of this process: primary or secondary.
    pub fn proc_type(&self) -> ProcType {
        self.region.proc_type()
    }

    /// How this process came by its region: it made it, took it over from a dead primary, or joined.
    pub fn joined(&self) -> Joined {
        self.joined
    }

    /// Whether another process of the group lives.
    pub fn has_others(&self) -> bool {
        self.region.has_others()
    }

    /// What waits for other processes to die; each call gives one that hears of all from now on.
    ///
    /// The primary hears of the members' deaths, a secondary of the primary's going and coming. Who
    /// is dead, [`Region::dead_slots`] says.
    pub fn deaths(&self) -> Deaths {
        Deaths::of(&self.bell)
    }

    /// The memory that the group shares. It stays mapped until the process ends.
    pub fn region(&self) -> &'static Region {
        self.region
    }

    /// The arguments of the program.
    pub fn args(&self) -> &EalArgs {
        &self.args
    }

    /// The lcores of this process, and the cpus they were placed on.
    pub fn lcores(&self) -> &LcoreMap {
        self.lcores.map()
    }

    /// The lcore of the thread that runs `main`.
    pub fn main_lcore(&self) -> LcoreId {
        self.lcores.main()
    }

    /// All other lcores, ascending.
    pub fn worker_lcores(&self) -> Vec<LcoreId> {
        self.lcores.workers()
    }

    /// The NUMA node of an lcore, DPDK's `rte_lcore_to_socket_id`; `None` if this process has no such lcore, or the kernel does
    /// not tell. It is what [`Region::reserve`] and those who build on it take.
    pub fn node(&self, lcore: LcoreId) -> Option<u32> {
        self.lcores.node(lcore)
    }

    /// Takes a slot for a data-path thread; `name` is what `forebay list` shows.
    ///
    /// # Errors
    ///
    /// [`Error::NoSlot`] when all are taken.
    pub fn claim_slot(&self, name: &str) -> Result<Slot, Error> {
        let slot = Slot::claim(self.region, name)?;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.tell_slots();
        }
        Ok(slot)
    }

    /// Runs `f` on a thread of its own, kept on the cpus of `lcore`: DPDK's
    /// `rte_eal_remote_launch`.
    ///
    /// # Errors
    ///
    /// Refuses an lcore that `-l` does not name, that runs a function already, and the main one.
    pub fn launch<T: Send + 'static>(
        &self,
        lcore: LcoreId,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<LcoreHandle<T>, Error> {
        self.lcores.launch(lcore, f)
    }

    /// Keeps the calling thread on the cpus of the main lcore.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] with what the kernel says.
    pub fn pin_main(&self) -> Result<(), Error> {
        self.lcores.pin_main()
    }

    /// What publishes and fetches, for those who keep it beyond the `Eal`.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Hands out `payload` and `descriptors` to whoever [fetches](Self::fetch) `key`, in place of
    /// what was published under it before.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`] in a secondary, and what no message could carry.
    pub fn publish(
        &self,
        key: &str,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        self.control.publish(key, payload, descriptors)
    }

    /// Hands `key` out no more.
    pub fn withdraw(&self, key: &str) {
        self.control.withdraw(key);
    }

    /// What the primary has published under `key`, with descriptors of our own; `None` if nothing.
    /// [`Control`] has more: what is kept for the time without a primary, and what is taken over.
    ///
    /// # Errors
    ///
    /// Says so when no primary answers within two seconds.
    pub fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        self.control.fetch(key)
    }

    /// Leaves the group. A primary in whose group nobody else lives removes the group's files;
    /// otherwise they stay for those who live and for the next primary.
    ///
    /// # Errors
    ///
    /// What could not be removed.
    pub fn cleanup(self) -> Result<(), Error> {
        self.leave()
    }

    /// What `cleanup` and dropping do. The second time nothing: the place may be another's by then. In
    /// a forked child's copy neither the threads nor the locks are its own, and they know that.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        if self.left.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // The socket goes before the lock does: afterwards its place is the next primary's.
        let stopped = thread.map_or(Ok(()), |mut thread| thread.stop());
        self.control.clear();
        self.region.leave()?;
        stopped
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // Whoever wants to know calls `cleanup`.
        let _ = self.leave();
    }
}

/// Serves the control socket, or joins who does.
fn connect(
    prefix: &str,
    (region, joined): (&'static Region, Joined),
    bell: &Arc<Bell>,
) -> Result<(Control, Option<Thread>), Error> {
    // In private memory there is no directory and nobody else.
    let Some(directory) = region.directory() else {
        return Ok((Control::alone(region, Arc::clone(bell)), None));
    };
    let (control, thread) = if region.is_primary() {
        Control::serve(directory.path(), (region, joined), Arc::clone(bell))
    } else {
        Control::ask(directory.path(), prefix, region, Arc::clone(bell))
    }?;
    Ok((control, Some(thread)))
}

/// Gets the region in the role that the arguments ask for; `cpus` are the main lcore's.
fn join(args: &EalArgs, cpus: Option<&[u32]>) -> Result<(Region, Joined), Error> {
    let data_len = usize::try_from(args.memory_bytes()).unwrap_or(usize::MAX);
    if args.in_memory {
        return Ok((Region::anonymous(data_len)?, Joined::Created));
    }
    let wait = Duration::from_secs(args.wait_seconds.into());
    let mut config = RegionConfig {
        runtime_dir: args.runtime_dir.clone(),
        prefix: args.prefix.clone(),
        group: args.group.clone(),
        proc_type: args.proc_type,
        data_len,
        socket_mem: args.socket_mem_bytes(),
        near_cpu: cpus.and_then(|cpus| cpus.first().copied()),
        huge: args.huge,
        huge_dir: args.huge_dir.clone(),
        program: args.program_name().to_owned(),
        wait: wait.min(SILENT_FOR),
    };
    let started = Instant::now();
    let joined = match Region::join(&config) {
        Err(Error::NoGroup { .. }) if wait > SILENT_FOR => {
            info!(
                "no group {:?} yet; waiting up to {} s for its primary \
                 (--proc-type=primary --file-prefix={})",
                args.prefix, args.wait_seconds, args.prefix
            );
            config.wait = wait.saturating_sub(started.elapsed());
            Region::join(&config)
        }
        outcome => outcome,
    };
    let (region, joined) = joined?;
    let place = region
        .directory()
        .map(|directory| directory.path().display().to_string());
    let place = place.unwrap_or_default();
    let size = region.info();
    let (mb, backing) = (size.data_len >> 20, size.backing);
    match joined {
        Joined::Created => info!("primary of a new group in {place}: {mb} MB on {backing}"),
        Joined::Adopted => info!("primary of the group in {place}, as it was left by the last one"),
        Joined::Attached => info!("secondary of the group in {place}: {mb} MB on {backing}"),
    }
    Ok((region, joined))
}

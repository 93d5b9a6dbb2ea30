//! The environment of a process, assembled: arguments, cores, role, region, control socket.

use std::os::fd::OwnedFd;

use tracing::info;

use crate::args::EalArgs;
use crate::control::{Control, Handed};
use crate::core::{LcoreId, LcoreMap, available_cpus};
use crate::error::Error;
use crate::launch::{LcoreHandle, Lcores};
use crate::process::{ProcType, Slot};
use crate::region::Region;

/// What a program gets from [`Eal::init`] and gives back with [`Eal::cleanup`].
///
/// All but `cleanup` take `&self`, so that threads may share it in an `Arc`.
#[derive(Debug)]
pub struct Eal {
    args: EalArgs,
    proc_type: ProcType,
    region: &'static Region,
    lcores: Lcores,
    control: Control,
}

impl Eal {
    /// Places the lcores, finds the role, and creates or joins the group.
    ///
    /// # Errors
    ///
    /// Says what is missing, and how to get it.
    pub fn init(args: EalArgs) -> Result<Self, Error> {
        for notice in &args.notices {
            info!("{notice}");
        }
        let available = available_cpus().map_err(|source| Error::Cpus { source })?;
        let map = args.lcores.place(&available);
        let main = args.main_lcore.or(map.first()).unwrap_or(LcoreId(0));
        info!("{}", map.describe(available.len()));
        let lcores = Lcores::new(map, main)?;
        let len = usize::try_from(args.memory_bytes()).unwrap_or(usize::MAX);
        let region = Box::leak(Box::new(Region::anonymous(len)?));
        let proc_type = ProcType::Primary;
        Ok(Self {
            args,
            proc_type,
            region,
            lcores,
            control: Control::alone(),
        })
    }

    /// The role of this process: primary or secondary.
    pub fn proc_type(&self) -> ProcType {
        self.proc_type
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

    /// Takes a slot for a data-path thread; `name` is what `forebay list` shows.
    ///
    /// # Errors
    ///
    /// [`Error::NoSlot`] when all are taken.
    pub fn claim_slot(&self, name: &str) -> Result<Slot, Error> {
        Slot::claim(self.region, name)
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
    ///
    /// # Errors
    ///
    /// Says so when no primary answers within two seconds.
    pub fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        self.control.fetch(key)
    }

    /// Leaves the group; the last process out removes its files.
    ///
    /// # Errors
    ///
    /// What could not be removed.
    pub fn cleanup(self) -> Result<(), Error> {
        self.control.clear();
        Ok(())
    }
}

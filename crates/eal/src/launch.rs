//! Lcore threads: the program's functions, each on the cpus of its lcore.
//!
//! As in DPDK the main lcore is the thread that called `Eal::init`, every other lcore is a
//! worker, and a worker runs one function at a time.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};

use crate::core::{LcoreId, LcoreMap, pin_thread};
use crate::error::Error;
use crate::numa;

/// The lcores of this process, placed on cpus, and which of them are running.
#[derive(Debug)]
pub(crate) struct Lcores {
    map: LcoreMap,
    main: LcoreId,
    busy: Arc<Busy>,
}

/// The lcores whose function has not ended.
#[derive(Debug, Default)]
struct Busy(Mutex<BTreeSet<LcoreId>>);

impl Busy {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<LcoreId>> {
        // Each change is one call, so a panic leaves the set whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks an lcore busy until it is dropped, by the function's end or by its panic.
#[derive(Debug)]
struct Running {
    lcore: LcoreId,
    busy: Arc<Busy>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.busy.lock().remove(&self.lcore);
    }
}

impl Lcores {
    /// Of a map that is placed on cpus; `main` must be one of its lcores.
    pub(crate) fn new(map: LcoreMap, main: LcoreId) -> Result<Self, Error> {
        let lcores = Self {
            map,
            main,
            busy: Arc::default(),
        };
        lcores.cpus(main)?;
        Ok(lcores)
    }

    /// All lcores and their cpus.
    pub(crate) fn map(&self) -> &LcoreMap {
        &self.map
    }

    /// The NUMA node of an lcore.
    pub(crate) fn node(&self, lcore: LcoreId) -> Option<u32> {
        numa::node_of_cpu(*self.map.cpus(lcore)?.first()?)
    }

    /// The main thread's lcore.
    pub(crate) fn main(&self) -> LcoreId {
        self.main
    }

    /// All lcores but the main one, ascending.
    pub(crate) fn workers(&self) -> Vec<LcoreId> {
        self.map.ids().filter(|lcore| *lcore != self.main).collect()
    }

    fn cpus(&self, lcore: LcoreId) -> Result<&[u32], Error> {
        let known = || Error::NoLcore {
            lcore,
            lcores: self.map.ids().collect(),
        };
        self.map.cpus(lcore).ok_or_else(known)
    }

    /// Keeps the calling thread on the cpus of the main lcore.
    pub(crate) fn pin_main(&self) -> Result<(), Error> {
        let cpus = self.cpus(self.main)?;
        let lcore = self.main;
        pin_thread(cpus).map_err(|source| Error::Pin {
            lcore,
            cpus: cpus.to_vec(),
            source,
        })
    }

    /// Runs `f` on a thread of its own, on the cpus of `lcore`.
    pub(crate) fn launch<T: Send + 'static>(
        &self,
        lcore: LcoreId,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<LcoreHandle<T>, Error> {
        let cpus = self.cpus(lcore)?.to_vec();
        if lcore == self.main {
            return Err(Error::LcoreIsMain { lcore });
        }
        if !self.busy.lock().insert(lcore) {
            return Err(Error::LcoreBusy { lcore });
        }
        let running = Running {
            lcore,
            busy: Arc::clone(&self.busy),
        };
        let (report, pinned) = mpsc::sync_channel(1);
        let body = {
            let cpus = cpus.clone();
            move || {
                let _running = running;
                let outcome = pin_thread(&cpus);
                let failed = outcome.is_err();
                // The launcher waits for this, unless it has died.
                let _ = report.send(outcome);
                if failed { None } else { Some(f()) }
            }
        };
        let thread = Builder::new()
            .name(format!("lcore-{lcore}"))
            .spawn(body)
            .map_err(|source| Error::Spawn { lcore, source })?;
        match pinned.recv() {
            Ok(Ok(())) => Ok(LcoreHandle { lcore, thread }),
            Ok(Err(source)) => {
                // So that the lcore is free again when the error arrives.
                let _ = thread.join();
                Err(Error::Pin {
                    lcore,
                    cpus,
                    source,
                })
            }
            // The thread ends without a report only by a panic before its function.
            Err(mpsc::RecvError) => Err(panicked(lcore, thread.join().err().as_deref())),
        }
    }
}

/// A function that runs on an lcore. Dropping this does not stop it.
#[derive(Debug)]
pub struct LcoreHandle<T> {
    lcore: LcoreId,
    /// `None` only if the thread could not be pinned; then no handle is made.
    thread: JoinHandle<Option<T>>,
}

impl<T> LcoreHandle<T> {
    /// Where it runs.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }

    /// Whether the function has ended, so that [`wait`](Self::wait) returns at once.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the function to end and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`Error::LcorePanicked`] if it panicked.
    pub fn wait(self) -> Result<T, Error> {
        match self.thread.join() {
            Ok(value) => Ok(value.expect("no handle is made for a thread that was not pinned")),
            Err(payload) => Err(panicked(self.lcore, Some(payload.as_ref()))),
        }
    }
}

/// The error for a thread that ended by a panic.
fn panicked(lcore: LcoreId, payload: Option<&(dyn Any + Send)>) -> Error {
    let text = payload.and_then(|payload| {
        let literal = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        literal.or_else(|| payload.downcast_ref::<String>().cloned())
    });
    let message = text.unwrap_or_else(|| "no message".to_owned());
    Error::LcorePanicked { lcore, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::available_cpus;

    fn lcores(list: &str) -> Lcores {
        let map = LcoreMap::parse_list(list)
            .unwrap()
            .place(&available_cpus().unwrap());
        let main = map.first().unwrap();
        Lcores::new(map, main).unwrap()
    }

    #[test]
    fn a_launched_function_runs_on_its_cpus_and_its_value_comes_back() {
        let lcores = lcores("1-3");
        assert_eq!(lcores.main(), LcoreId(1));
        assert_eq!(lcores.workers(), [LcoreId(2), LcoreId(3)]);
        let handle = lcores
            .launch(LcoreId(3), || available_cpus().unwrap())
            .unwrap();
        assert_eq!(handle.lcore(), LcoreId(3));
        assert_eq!(
            handle.wait().unwrap(),
            lcores.map().cpus(LcoreId(3)).unwrap()
        );
    }

    #[test]
    fn a_panic_becomes_an_error_that_names_the_lcore_and_frees_it() {
        let lcores = lcores("0-1");
        let lcore = LcoreId(1);
        let handle = lcores.launch(lcore, || panic!("no {}", "buffer")).unwrap();
        let error = handle.wait().unwrap_err();
        assert!(matches!(&error, Error::LcorePanicked { lcore: at, .. } if *at == lcore));
        assert!(
            error.to_string().contains("lcore 1 panicked: no buffer"),
            "{error}"
        );
        let handle = lcores
            .launch(lcore, || std::panic::panic_any(7_u8))
            .unwrap();
        assert!(
            handle
                .wait()
                .unwrap_err()
                .to_string()
                .contains("no message")
        );
        assert_eq!(lcores.launch(lcore, || 3).unwrap().wait().unwrap(), 3);
    }

    #[test]
    fn an_lcore_that_is_busy_main_or_absent_is_refused() {
        let lcores = lcores("0-1");
        let (stop, stopped) = mpsc::channel::<()>();
        let handle = lcores
            .launch(LcoreId(1), move || stopped.recv().is_err())
            .unwrap();
        assert!(!handle.is_finished());
        let launch = |lcore| {
            lcores
                .launch(LcoreId(lcore), || ())
                .map(|_| ())
                .unwrap_err()
        };
        assert!(matches!(launch(1), Error::LcoreBusy { lcore: LcoreId(1) }));
        assert!(matches!(
            launch(0),
            Error::LcoreIsMain { lcore: LcoreId(0) }
        ));
        let error = launch(7);
        assert!(matches!(
            error,
            Error::NoLcore {
                lcore: LcoreId(7),
                ..
            }
        ));
        assert!(error.to_string().contains("0, 1"), "{error}");
        drop(stop);
        assert!(handle.wait().unwrap());
        assert!(lcores.launch(LcoreId(1), || ()).is_ok());
    }
}

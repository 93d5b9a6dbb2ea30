//! A port's life: configured, set up, started, stopped, closed. All of it is the primary's.
//!
//! ```text
//! Opened -> Configured -> Started <-> Stopped -> Configured ...        any -> Closed
//! ```
//!
//! A port that was adopted takes the same steps, while its record says started all the time (`adoption.rs`).
//!
//! **If a process dies:** the primary that dies on the way leaves the state it stored last. A port that is not started
//! hands out no queue, and the next primary begins with Opened; one that was started it adopts.

use std::sync::MutexGuard;

use eal::sync::{Ordering, fence};
use mbuf::Pool;
use tracing::{info, warn};

use super::{Control, Port};
use crate::args::PortConfig;
use crate::driver::{Device, Direction, QueueId};
use crate::error::{Error, PortState};
use crate::exchange::key;
use crate::mac::MacAddress;
use crate::table::QUEUES_MAX;

impl Port {
    /// Says how many queues the port is to have. Counters start at zero.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::WrongState`] while it is started; [`Error::QueueCount`] beyond what the driver has;
    /// [`Error::Taken`] while somebody drives a queue; [`Error::OtherConfig`] if the port was [adopted](Self::is_adopted),
    /// others drive it, and it has other counts.
    pub fn configure(&self, rx: u16, tx: u16, config: &PortConfig) -> Result<(), Error> {
        self.primary_only("configuring it")?;
        let mut control = self.control();
        self.allow_in(
            &control,
            "configure it",
            &[PortState::Opened, PortState::Configured, PortState::Stopped],
            "stop it first",
        )?;
        if control.adopted && self.configure_as_it_is(&mut control, rx, tx, config)? {
            return Ok(());
        }
        // Pairs with the fence in `look_again`: whoever claims a queue now sees that the port is not started, or is seen here.
        fence(Ordering::SeqCst);
        if let Some(taken) = self.table.first_taken() {
            return Err(taken);
        }
        let info = control.device.info();
        for (direction, asked, max) in [
            (Direction::Rx, rx, info.max_rx_queues),
            (Direction::Tx, tx, info.max_tx_queues),
        ] {
            let max = max.min(u16::try_from(QUEUES_MAX).unwrap_or(u16::MAX));
            if asked > max || rx == 0 && tx == 0 {
                let more = control.device.more_queues(asked);
                let more = more.unwrap_or_else(|| format!("open it as {}", self.driver.usage()));
                let remedy = format!("; configure from 1 to {max}, or {more}");
                return Err(Error::QueueCount {
                    port: self.id,
                    driver: self.driver(),
                    direction,
                    asked,
                    max,
                    remedy,
                });
            }
        }
        // It is of the device as it was.
        self.withdraw();
        control
            .device
            .configure(rx, tx, config)
            .map_err(|e| self.named(&control, e))?;
        self.set_modes(&mut control, config)?;
        (control.rx_ready, control.tx_ready) = (vec![false; rx.into()], vec![false; tx.into()]);
        for queue in (0..).take(QUEUES_MAX).map(QueueId) {
            for direction in [Direction::Rx, Direction::Tx] {
                self.table.clear(direction, queue);
            }
        }
        self.record.set_queue_counts(rx, tx);
        self.record.set_rss_key(&config.rss_key);
        if let Some(reta) = self.reta() {
            reta.spread(&(0..rx).collect::<Vec<_>>());
        }
        self.set_state(&mut control, PortState::Configured);
        Ok(())
    }

    /// Sets what can also be changed later, where the configuration names it, and notes how the device is then.
    pub(super) fn set_modes(
        &self,
        control: &mut Control,
        config: &PortConfig,
    ) -> Result<(), Error> {
        if let Some(mtu) = config.mtu {
            let set = control.device.set_mtu(mtu);
            set.map_err(|e| self.named(control, e))?;
        }
        if let Some(on) = config.promiscuous {
            self.note_promiscuous(on);
            let set = control.device.set_promiscuous(on);
            set.map_err(|e| self.named(control, e))?;
        }
        self.record.set_info(&control.device.info());
        Ok(())
    }

    /// Off is noted before the device is told, on after: a successor finds sockets that are on, and more of them perhaps, if the
    /// record says on, and makes sure of what it says otherwise.
    fn note_promiscuous(&self, on: bool) {
        if !on {
            self.record.set_promiscuous(false);
        }
    }

    /// Makes an RX queue that fills buffers of `pool`; `descriptors` 0 is what the driver thinks right.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::WrongState`] unless the port was configured and not started since;
    /// [`Error::NoQueue`], [`Error::Descriptors`], and what the driver refuses.
    pub fn rx_queue_setup(
        &self,
        queue: QueueId,
        descriptors: u32,
        pool: Pool,
    ) -> Result<(), Error> {
        let mut control = self.setup(Direction::Rx, queue)?;
        let descriptors = self.descriptors(&control, Direction::Rx, queue, descriptors)?;
        if self.may_set_up(&mut control, Direction::Rx, queue) {
            control
                .device
                .rx_queue_setup(queue, descriptors, pool)
                .map_err(|e| self.named(&control, e))?;
        }
        self.table
            .set_up(Direction::Rx, queue, Some(pool), descriptors);
        control.rx_ready[usize::from(queue.0)] = true;
        Ok(())
    }

    /// Makes a TX queue; `descriptors` 0 is what the driver thinks right.
    ///
    /// # Errors
    ///
    /// As for [`rx_queue_setup`](Self::rx_queue_setup).
    pub fn tx_queue_setup(&self, queue: QueueId, descriptors: u32) -> Result<(), Error> {
        let mut control = self.setup(Direction::Tx, queue)?;
        let descriptors = self.descriptors(&control, Direction::Tx, queue, descriptors)?;
        if self.may_set_up(&mut control, Direction::Tx, queue) {
            match control.device.tx_queue_setup(queue, descriptors) {
                // Somebody living may have it for itself: a capture file is locked by who writes it.
                Err(error) if control.adopted && self.table.first_taken().is_some() => {
                    warn!(
                        "port {} TX queue {queue}: nobody kept it and it cannot be opened anew yet: {error}",
                        self.id
                    );
                }
                outcome => outcome.map_err(|e| self.named(&control, e))?,
            }
        }
        self.table.set_up(Direction::Tx, queue, None, descriptors);
        control.tx_ready[usize::from(queue.0)] = true;
        Ok(())
    }

    /// Lets packets through, and hands out what secondaries need for their queues.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::WrongState`] before every queue is set up; what the driver refuses.
    pub fn start(&self) -> Result<(), Error> {
        self.primary_only("starting it")?;
        let mut control = self.control();
        self.allow_in(
            &control,
            "start it",
            &[PortState::Configured, PortState::Stopped],
            "configure it first",
        )?;
        if control
            .rx_ready
            .iter()
            .chain(&control.tx_ready)
            .any(|ready| !ready)
        {
            return Err(Error::WrongState {
                port: self.id,
                what: "start it",
                state: control.state,
                remedy: "call rx_queue_setup and tx_queue_setup for each queue first",
            });
        }
        control
            .device
            .start()
            .map_err(|e| self.named(&control, e))?;
        for (direction, queue) in self.queues() {
            self.publish(&control, direction, queue)?;
            self.make_proxy(direction, queue)?;
        }
        self.table.set_word(control.device.word());
        self.record.set_info(&control.device.info());
        self.record.set_link(control.device.link());
        self.set_state(&mut control, PortState::Started);
        Ok(())
    }

    /// Lets no more packets through. Queues stay with those who have them and move nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], [`Error::WrongState`], and what the driver refuses.
    pub fn stop(&self) -> Result<(), Error> {
        self.primary_only("stopping it")?;
        let mut control = self.control();
        self.allow_in(
            &control,
            "stop it",
            &[PortState::Started, PortState::Stopped],
            "start it first",
        )?;
        // From now on it is ours to change: whoever drives a queue moves nothing.
        control.adopted = false;
        self.set_state(&mut control, PortState::Stopped);
        control.device.stop().map_err(|e| self.named(&control, e))
    }

    /// Gives the device back. Once closed it stays closed. A port of which somebody living drives a queue is
    /// [left](Self::leave) to them.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], and what the driver refuses while it stops.
    pub fn close(&self) -> Result<(), Error> {
        self.primary_only("closing it")?;
        let mut control = self.control();
        if control.state == PortState::Closed {
            return Ok(());
        }
        let before = std::mem::replace(&mut control.state, PortState::Closed);
        if let Err(taken) = self.table.shut(self.record, PortState::Closed) {
            info!("port {} is left as it is: {taken}", self.id);
            control.device.close();
            return Ok(());
        }
        self.withdraw();
        let stopped = match before {
            PortState::Started => control.device.stop(),
            _ => Ok(()),
        };
        control.device.close();
        stopped.map_err(|e| self.named(&control, e))
    }

    /// Ends this process's part in a port that others use: device, state and queues of others go on without a primary until the
    /// next one adopts them. One that is started for nobody is [closed](Self::close).
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], and as for [`close`](Self::close).
    pub fn leave(&self) -> Result<(), Error> {
        self.primary_only("leaving it")?;
        let mut control = self.control();
        let is_idle = control.state != PortState::Started && !control.adopted;
        if is_idle || (control.device.has_frames() && self.table.first_taken().is_none()) {
            drop(control);
            return self.close();
        }
        // What was handed out stays where it is: others have it, and offer it to the next primary.
        control.state = PortState::Closed;
        control.device.close();
        Ok(())
    }

    /// Changes the largest packet.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], [`Error::PortUnsupported`], and what the driver refuses.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.change("changing its MTU", |device| device.set_mtu(mtu))
    }

    /// Changes the address.
    ///
    /// # Errors
    ///
    /// As for [`set_mtu`](Self::set_mtu).
    pub fn set_mac(&self, mac: MacAddress) -> Result<(), Error> {
        self.change("changing its address", |device| device.set_mac(mac))
    }

    /// Whether frames for other addresses are to be received too.
    ///
    /// # Errors
    ///
    /// As for [`set_mtu`](Self::set_mtu).
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        self.change("changing promiscuous mode", |device| {
            self.note_promiscuous(on);
            device.set_promiscuous(on)
        })
    }

    /// Takes back what was handed out for queues.
    fn withdraw(&self) {
        for (direction, queue) in self.queues() {
            self.exchange.withdraw(&key(self.id, direction, queue));
        }
    }

    pub(super) fn primary_only(&self, what: &'static str) -> Result<(), Error> {
        if self.primary {
            return Ok(());
        }
        let primary = self.region.slots().iter().find(|slot| {
            slot.state().0 == eal::SlotState::Live && slot.proc_type() == eal::ProcType::Primary
        });
        let who = primary
            .map(|slot| format!(" (pid {})", slot.pid()))
            .unwrap_or_default();
        Err(Error::NotPrimary {
            port: self.id,
            what,
            who,
        })
    }

    fn allow_in(
        &self,
        control: &Control,
        what: &'static str,
        states: &[PortState],
        remedy: &'static str,
    ) -> Result<(), Error> {
        if states.contains(&control.state) {
            return Ok(());
        }
        let remedy = if control.state == PortState::Closed {
            "a closed port stays closed; restart the primary"
        } else {
            remedy
        };
        Err(Error::WrongState {
            port: self.id,
            what,
            state: control.state,
            remedy,
        })
    }

    /// The control plane for setting a queue up: primary, configured, a queue that there is.
    fn setup(
        &self,
        direction: Direction,
        queue: QueueId,
    ) -> Result<MutexGuard<'_, Control>, Error> {
        self.primary_only("setting up its queues")?;
        let control = self.control();
        self.allow_in(
            &control,
            "set up a queue",
            // A queue of a port that was started has what goes with it: a share of the frames, descriptors handed out.
            &[PortState::Configured],
            match control.state {
                PortState::Started => "stop it and configure it again first",
                PortState::Stopped => "configure it again first",
                _ => "configure it first",
            },
        )?;
        let count = self.queue_count(direction);
        if queue.0 >= count {
            return Err(Error::NoQueue {
                port: self.id,
                direction,
                queue,
                count,
            });
        }
        Ok(control)
    }

    fn descriptors(
        &self,
        control: &Control,
        direction: Direction,
        queue: QueueId,
        asked: u32,
    ) -> Result<u32, Error> {
        let info = control.device.info();
        match asked {
            0 => Ok(info.default_descriptors),
            asked if asked <= info.max_descriptors => Ok(asked),
            asked => Err(Error::Descriptors {
                port: self.id,
                driver: self.driver(),
                direction,
                queue,
                asked,
                max: info.max_descriptors,
            }),
        }
    }

    fn change(
        &self,
        what: &'static str,
        change: impl FnOnce(&mut dyn Device) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.primary_only(what)?;
        let mut control = self.control();
        let open = [
            PortState::Opened,
            PortState::Configured,
            PortState::Started,
            PortState::Stopped,
        ];
        self.allow_in(&control, "change it", &open, "open it first")?;
        let changed = change(control.device.as_mut());
        self.record.set_info(&control.device.info());
        changed.map_err(|e| self.named(&control, e))
    }

    /// Puts the port and its driver into an error that does not know them.
    fn named(&self, control: &Control, error: Error) -> Error {
        match error {
            Error::Unsupported { what } => Error::PortUnsupported {
                port: self.id,
                driver: self.driver(),
                what,
                capabilities: control.device.info().capabilities.to_string(),
            },
            other => other,
        }
    }

    pub(super) fn set_state(&self, control: &mut Control, state: PortState) {
        control.state = state;
        self.record.set_state(state);
    }
}

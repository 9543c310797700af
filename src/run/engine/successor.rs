//! The engine of a generation that takes over.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use crate::error::Error;
use crate::lifecycle::event::What;
use crate::lifecycle::forward::Tail;
use crate::lifecycle::own;
use crate::lifecycle::phase::Phase;
use crate::lifecycle::token::Token;
use crate::net::gate::State;
use crate::protocol::incumbent;
use crate::protocol::successor::{self, NotServing};
use crate::protocol::{ToIncumbent, ToSuccessor, decode, encode};
use crate::run::handover::forward_and_report;
use crate::run::input::{FromPeer, Input};
use crate::run::old::Old;
use crate::run::peer::{Letter, Peer};
use crate::run::shared::Shared;
use crate::run::standby::Standby;
use crate::run::start::{Refused, adopt};
use crate::sys::channel::truncated;
use crate::sys::log;
use crate::sys::{fd, process, stdio};

impl Engine {
    pub(super) fn heard_from_predecessor(&mut self, from: FromPeer) {
        let record = match from {
            FromPeer::Record(record) => record,
            FromPeer::Broken(error) => {
                return self.succeed(successor::Event::Garbage {
                    reason: error.to_string(),
                });
            }
            FromPeer::Gone(how) => {
                self.predecessor_gone();
                log::debug!(how, "the predecessor has gone");
                if !self.successor.is_settled() && self.drain.is_none() {
                    self.shared.tell_of_orphanage();
                }
                self.succeed(successor::Event::PredecessorGone);
                return self.take_over_lanes();
            }
            FromPeer::Deserted => return,
        };
        if ToSuccessor::are_events(&record.bytes) {
            return self.hear_later(record.bytes);
        }
        let message = match decode::<ToSuccessor>(&record.bytes) {
            Ok(message) => message,
            Err(garbage) => {
                return self.succeed(successor::Event::Garbage {
                    reason: garbage.to_string(),
                });
            }
        };
        log::debug!(protocol; ?message, "from the predecessor");
        if matches!(message, ToSuccessor::Connections { .. }) && self.released {
            if let Some(peer) = &self.predecessor {
                self.receive_connections(peer, &message, record);
            }
            return;
        }
        if record.truncated {
            return self.succeed(successor::Event::Garbage {
                reason: truncated().to_string(),
            });
        }
        if let ToSuccessor::Events { .. } = message {
            return self.hear_later(record.bytes);
        }
        if let ToSuccessor::Client { state } = message {
            let socket = record.descriptors.into_iter().next();
            return self.take_client(socket, state);
        }
        if let ToSuccessor::Sockets(sockets) = &message {
            match adopt(sockets, record.descriptors, &self.shared.store) {
                Ok(()) => {}
                Err(Refused::Garbage(reason)) => {
                    return self.succeed(successor::Event::Garbage { reason });
                }
                Err(Refused::Failed(failed)) => {
                    return self.succeed(successor::Event::Failed(failed));
                }
            }
        }
        self.released |= matches!(message, ToSuccessor::Released {});
        match message {
            ToSuccessor::HandOver {} => self.ask(None, successor::Event::Received(&message)),
            _ => self.succeed(successor::Event::Received(&message)),
        }
        match message {
            // It was told already, unless nobody here listened at the time, or that was long ago.
            ToSuccessor::Draining {} | ToSuccessor::Released {} => self.refresh_credit(),
            ToSuccessor::Lanes {} => self.inherit_lanes(),
            _ => {}
        }
    }

    /// What follows from the predecessor's death whatever the machine makes of it.
    pub(super) fn predecessor_gone(&mut self) {
        self.forward_the_rest();
        self.hear_all();
        if let Some(predecessor) = &self.shared.predecessor {
            predecessor.exited.cancel();
            self.older_ended(predecessor.generation);
        }
    }

    /// Forwards what is on its way to the predecessor's standard error. Nobody else forwards what a
    /// child of this generation, or of one before, still writes that was started early.
    fn forward_the_rest(&mut self) {
        self.restore_stderr();
        let offered = self.offered.as_mut();
        for pipe in offered.map_or_else(Vec::new, |offered| {
            std::mem::take(&mut offered.stderr_pipes)
        }) {
            self.stderr_pipes.push(Arc::downgrade(&pipe));
            let stood_by = self.stood_by.clone();
            own::spawn(async move {
                if let Some(stood_by) = stood_by {
                    stood_by.cancelled().await;
                }
                forward_and_report(pipe, Tail::default(), Token::new()).await;
            });
        }
    }

    /// Sees to it that nobody waits for a predecessor that has died.
    pub(super) fn stand_by(&mut self) {
        let Some(offered) = &self.offered else {
            return;
        };
        let (Some(predecessor), Some(pipe), Some(stderr)) = (
            &offered.incumbent,
            offered.stderr_pipes.first(),
            &offered.stderr,
        ) else {
            return;
        };
        if self.standby.is_some() {
            return;
        }
        match Standby::new(predecessor, pipe, stderr) {
            Ok(standby) => {
                self.stood_by = Some(standby.ended());
                self.standby = Some(standby);
            }
            Err(error) => log::debug!(%error, "nobody stands by for standard error"),
        }
    }

    /// The pipes of standard errors into which a child may still write, or has written.
    pub(super) fn open_stderr_pipes(&self) -> Vec<Arc<OwnedFd>> {
        let waiting = self
            .offered
            .iter()
            .flat_map(|offered| &offered.stderr_pipes);
        let forwarded = self.stderr_pipes.iter().filter_map(Weak::upgrade);
        let open = waiting.map(Arc::clone).chain(forwarded);
        open.filter(|pipe| !fd::has_ended(pipe)).collect()
    }

    pub(super) fn perform_as_successor(&mut self, action: successor::Action) {
        use successor::Action;
        match action {
            Action::Send(message) => self.tell_predecessor(&message),
            // Main runs already.
            Action::RunMain => {}
            Action::StartTimer(successor::Timer::Probation) => {
                let offer = self.offered.as_ref().map(|offered| &offered.offer);
                let length = offer.map_or(0, |offer| offer.probation_ms);
                self.later(Duration::from_millis(length), Input::ProbationOver);
            }
            // The machine knows what to make of one that comes late.
            Action::StopTimer(successor::Timer::Probation) => {}
            Action::OpenGates => self.open_gates(),
            Action::ResolveReady(Ok(())) => self.shared.resolve(Ok(())),
            Action::ApplyOptions => {
                for warning in self.shared.store.apply_options() {
                    log::warn!("{warning}");
                }
            }
            Action::ResolveReady(Err(NotServing::Failed(reason))) => {
                self.failed = true;
                self.shared.resolve(Err(reason));
            }
            // Main is dropped where it waits.
            Action::ResolveReady(Err(NotServing::Stopped)) => {}
            Action::WritePidFile => self.write_pid_file(),
            Action::BecomeOwner => self.become_owner(),
            Action::RestoreStderr => self.restore_stderr(),
            Action::JoinProcessGroup => self.join_process_group(),
            Action::WatchPredecessor => self.watch_predecessor(),
            Action::CloseUnclaimed => self.later(UNCLAIMED, Input::Unclaimed),
            Action::EndNow => self.end_now(),
            Action::BeginStop => self.begin_stop(),
            Action::AbortDrain => self.hurry(),
            Action::PassOn(incumbent::Event::Released) => self.release(),
            Action::PassOn(event) => self.hand_over(event),
            Action::Refuse(refusal) => self.answer(Error::refused(refusal)),
        }
    }

    /// What is exclusive is free, unless the predecessor has died while a generation before it
    /// still had to let go: its word tells then, or its end.
    pub(super) fn release(&mut self) {
        self.unreleased = !self.released && self.older.iter().any(|old| old.pidfd.is_some());
        if self.unreleased {
            return;
        }
        if let Some(predecessor) = &self.shared.predecessor {
            predecessor.released.cancel();
        }
        self.hand_over(incumbent::Event::Released);
    }

    /// Looks whether the one that has ended was the last that had to let go.
    pub(super) fn older_gone(&mut self) {
        if self.unreleased {
            self.release();
        }
        self.lane_ended();
    }

    /// An old generation has let go, and whoever came before it. If nobody came after it who lives,
    /// that is all that the predecessor would have waited for.
    pub(super) fn released_by_older(&mut self, generation: u32) {
        let youngest = self.older.last();
        if self.shared.is_orphan() && youngest.is_none_or(|old| old.generation <= generation) {
            self.released = true;
            self.older_gone();
        }
    }

    pub(super) fn tell_predecessor(&self, message: &ToIncumbent) {
        if let Some(peer) = &self.predecessor {
            self.tell_older(peer, message);
        }
    }

    /// Says something to the predecessor, or to a generation before it.
    pub(super) fn tell_older(&self, peer: &Peer, message: &ToIncumbent) {
        match self.is_predecessor(peer) {
            true => log::debug!(protocol; ?message, "to the predecessor"),
            false => log::debug!(protocol; ?message, "to an older generation"),
        }
        match encode(message) {
            Ok(record) => peer.send(Letter::plain(record)),
            Err(error) => log::error!(%error, "a message to an older generation is too long"),
        }
    }

    pub(super) fn is_predecessor(&self, peer: &Peer) -> bool {
        let predecessor = self.predecessor.as_ref();
        predecessor.is_some_and(|predecessor| ptr::eq(predecessor, peer))
    }

    pub(super) fn open_gates(&mut self) {
        self.shared.set_gates(State::Open);
        let elapsed_ms = self.shared.set_phase(Phase::Serving);
        log::info!(
            phase = %Phase::Serving,
            generation = self.shared.generation,
            pid = std::process::id(),
            endpoints = self.shared.endpoints(),
            elapsed_ms,
            "serving"
        );
        self.note(What::Serving {
            endpoints: self.shared.endpoints(),
        });
        // From here on the predecessor has nothing to report of this one.
        self.shared.record.forward(None);
        if self.offered.is_none() && self.predecessor.is_none() {
            self.close_unclaimed();
        }
    }

    pub(super) fn become_owner(&mut self) {
        self.owner = true;
        self.undecided = false;
        if self.shared.is_orphan() {
            self.take_over_lanes();
        }
        let stops = self.drain.as_ref().filter(|drain| drain.is_stop);
        if let Some(deadline) = stops.map(|drain| drain.deadline) {
            self.give_up_endpoints();
            self.shorten_older(deadline.saturating_duration_since(Instant::now()));
        }
    }

    pub(super) fn restore_stderr(&mut self) {
        let Some(stderr) = self
            .offered
            .as_mut()
            .and_then(|offered| offered.stderr.take())
        else {
            return;
        };
        if let Err(error) = stdio::restore_stderr(&stderr) {
            log::warn!(%error, "standard error cannot be restored");
        }
        self.standby = None;
    }

    /// Closes inherited endpoints that nobody claimed, now that main has had its time to bind what it
    /// binds late; not during a handover, since the successor may serve on them.
    pub(super) fn close_unclaimed(&mut self) {
        self.close_unclaimed = self.handover.is_some();
        if self.close_unclaimed {
            return;
        }
        let keys = self.shared.store.close_unclaimed();
        if !keys.is_empty() {
            log::warn!(endpoints = ?keys, "inherited endpoints that nobody claimed are closed");
        }
        let keys = self.shared.store.unclaimed_by_activation();
        if !keys.is_empty() {
            log::warn!(
                endpoints = ?keys,
                "systemd has passed sockets that nobody claimed: they are kept for a successor"
            );
        }
    }

    pub(super) fn join_process_group(&self) {
        let group = self
            .offered
            .as_ref()
            .and_then(|offered| offered.offer.process_group);
        if let Some(Err(error)) = group.map(process::join_group) {
            log::debug!(%error, "the predecessor's process group has gone");
        }
    }

    /// From here on the predecessor is one of the older generations.
    pub(super) fn watch_predecessor(&mut self) {
        let (Some(offered), Some(peer)) = (&mut self.offered, &self.predecessor) else {
            return;
        };
        let generation = offered.offer.generation.saturating_sub(1);
        if self.older.iter().any(|old| old.generation == generation) {
            return;
        }
        let Ok(channel) = peer.channel().as_fd().try_clone_to_owned() else {
            return;
        };
        // What is too long for a number of milliseconds is not said at all.
        let limit = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or(u64::MAX));
        let deadline = process::uptime()
            .saturating_add(limit(offered.offer.drain_timeout_ms))
            .saturating_add(limit(offered.offer.kill_grace_ms));
        let old = Old {
            generation,
            pid: offered.offer.pid as u32,
            deadline,
            channel: Arc::new(channel),
            pidfd: offered.incumbent.take().map(Arc::new),
            capabilities: offered.offer.capabilities.clone(),
        };
        old.watch(self.shared.queue.clone());
        self.older.push(old);
        self.limit_older();
        self.show_older();
    }

    /// Takes a generation off the list of those that drain, if it is on it.
    pub(super) fn older_ended(&mut self, generation: u32) {
        self.hear_all();
        let Some(at) = self.older.iter().position(|o| o.generation == generation) else {
            return;
        };
        let older_pid = self.older.remove(at).pid;
        self.note(What::OlderEnded {
            older: generation,
            older_pid,
        });
        self.show_older();
    }

    /// Shows those who ask which generations before this one still drain.
    pub(super) fn show_older(&self) {
        self.shared.older.send_replace(self.older.clone());
    }

    /// With more old generations than may drain, the oldest end soon.
    pub(super) fn limit_older(&mut self) {
        let excess = self
            .older
            .len()
            .saturating_sub(self.shared.options.max_draining.max(1));
        let deadline = process::uptime().saturating_add(PARTING);
        let grace = self.shared.options.kill_grace;
        for old in self.older.iter_mut().take(excess) {
            log::warn!(
                generation = old.generation,
                pid = old.pid,
                "too many old generations drain: the oldest is ended"
            );
            shorten(old, deadline, grace, &self.shared);
        }
    }
}

/// How long after the predecessor's end an endpoint may still be bound that was inherited.
const UNCLAIMED: Duration = Duration::from_secs(5);

/// What an old generation that is one too many has left, for its last look and its goodbyes.
const PARTING: Duration = Duration::from_secs(1);

pub(super) fn shorten(old: &mut Old, deadline: Duration, grace: Duration, shared: &Shared) {
    if let Err(error) = old.shorten(deadline, grace) {
        log::debug!(
            generation = old.generation,
            %error,
            "an old generation cannot be asked to end earlier"
        );
    }
    // One that cannot be asked is killed.
    old.watch(shared.queue.clone());
}

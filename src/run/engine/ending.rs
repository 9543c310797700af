//! The engine of a generation that ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::successor::shorten;
use super::{End, Engine};
use crate::lifecycle::event::What;
use crate::lifecycle::own;
use crate::lifecycle::phase::Phase;
use crate::lifecycle::pid_file::PidFile;
use crate::net::gate::State;
use crate::protocol::incumbent::{Deadline, Event};
use crate::run::drain::Drain;
use crate::run::handover::Handover;
use crate::run::input::Input;
use crate::run::shared::Shared;
use crate::sys::log;
use crate::sys::process;

impl Engine {
    /// Starts the drain: for good if a successor serves, as a stop if nobody will.
    pub(super) fn begin_drain(&mut self, is_stop: bool) {
        if self.drain.is_some() {
            return;
        }
        // What older generations have counted is in the account.
        self.hear_all();
        let shared = Arc::clone(&self.shared);
        shared.want_news(true);
        let timeout = match is_stop {
            true => shared.options.stop_timeout(),
            false => shared.options.drain_timeout,
        };
        let drain = Drain::new(is_stop, timeout, shared.queue.clone());
        let deadline = drain.deadline;
        self.drain = Some(drain);
        self.show_ending();
        let elapsed_ms = shared.set_phase(Phase::Draining);
        if is_stop {
            shared.tokens.stopping.cancel();
            if self.owner {
                self.give_up_endpoints();
                self.shorten_older(timeout);
            } else {
                self.undecided = true;
                self.later(shared.options.commit_timeout, Input::Undecided);
            }
            shared.set_gates(State::Emptying);
        } else {
            self.expect_lane();
            self.show_successor();
            self.announce_successor();
            shared.set_gates(State::Ended);
            // The successor has its own. A copy kept here would go on listening when that one stops.
            shared.store.close();
        }
        shared.tracker.drain();
        shared.tokens.drain(deadline);
        let (connections, tasks) = (shared.tracker.open(), shared.tasks.names());
        let deadline_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        log::info!(
            phase = %Phase::Draining,
            generation = shared.generation,
            pid = std::process::id(),
            connections,
            ?tasks,
            deadline_ms,
            elapsed_ms,
            "draining"
        );
        self.note(What::Draining {
            stop: is_stop,
            connections,
            tasks: tasks.iter().map(ToString::to_string).collect(),
            deadline_ms,
            account: (!is_stop).then(|| {
                let account = shared.record.account(shared.tracker.tallies());
                Box::new(account)
            }),
        });
        if !is_stop {
            self.begin_telling();
        }
        self.drain_hooks(deadline);
        self.watch_quiet();
    }

    /// Ends without having served.
    pub(super) fn end_now(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.shared.want_news(true);
        let timeout = self.shared.options.hook_timeout;
        let mut drain = Drain::new(true, timeout, self.shared.queue.clone());
        let deadline = drain.deadline;
        // A main that is told of the failure may say what it has to say; one that is told to stop
        // has nothing to wait for.
        match self.failed {
            true => drain.spare_main(),
            false => drain.drop_main = true,
        }
        self.drain = Some(drain);
        self.show_ending();
        self.shared.set_gates(State::Ended);
        if !self.failed {
            self.shared.tokens.stopping.cancel();
        }
        self.shared.tokens.drain(deadline);
        for path in self.shared.store.remove_bound_paths() {
            log::warn!("{path}");
        }
        self.shared.store.close();
        log::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            "ending without having served"
        );
        self.drain_hooks(deadline);
        self.watch_quiet();
    }

    /// Looks at what is left whenever something has gone.
    fn watch_quiet(&self) {
        let (quiet, queue) = (Arc::clone(&self.quiet), self.shared.queue.clone());
        own::spawn(async move {
            while queue.send(Input::Quiet).is_ok() {
                quiet.notified().await;
            }
        });
    }

    /// An `on_active` that still runs has met its limit: what it took after `on_drain` would not be
    /// given back.
    pub(super) fn drain_hooks(&mut self, deadline: Instant) {
        let shared = Arc::clone(&self.shared);
        let active = self.active.take();
        let successor = self.incumbent.drains_for();
        if let (Some(_), Some(handover)) = (successor, &self.handover) {
            // Before anybody is told of it: it is judged by the parent that it has then.
            handover.orphan();
        }
        tokio::spawn(async move {
            let limit = shared.options.hook_timeout;
            let told = async {
                if let Some(successor) = successor {
                    let told = shared.options.integrations.pass_on(successor);
                    if tokio::time::timeout(limit, told).await.is_err() {
                        log::warn!(successor, "not everybody outside knows of the successor");
                    }
                }
            };
            let drained = async {
                if let Some(active) = active {
                    active.abort();
                    // Whether it had ended before is all the same.
                    tokio::time::timeout_at(deadline, active).await.ok();
                }
                shared.components.drain(limit, deadline).await;
            };
            tokio::join!(told, drained);
            shared.send(Input::HooksDrained);
        });
    }

    pub(super) fn hooks_drained(&mut self) {
        if let Some(drain) = &mut self.drain {
            // The last hook had the time until the deadline, and was dropped at it.
            drain.cut |= !drain.hooks_drained && drain.deadline <= Instant::now();
            drain.hooks_drained = true;
        }
        self.show_ending();
        self.hand_over(Event::HooksDrained);
    }

    pub(super) fn shorten(&mut self, deadline: Deadline) {
        let left = match deadline {
            Deadline::Stop => self.shared.options.stop_timeout(),
            Deadline::At(ms) => Duration::from_millis(ms).saturating_sub(process::uptime()),
        };
        if let Some(drain) = &mut self.drain {
            drain.shorten(left);
        }
        self.show_ending();
    }

    /// Cuts what is left, because somebody asks for it who is not a second stop.
    pub(super) fn cut_short(&mut self, by: &str) {
        self.end_lame_duck();
        self.abort(&format!("{by} asks for it"));
    }

    /// Shows those who ask what the end waits for.
    pub(super) fn show_ending(&self) {
        let mut ending = self.shared.ending();
        ending.main_ended = self.main.is_some();
        if let Some(drain) = &self.drain {
            let left = drain.deadline.saturating_duration_since(Instant::now());
            ending.deadline = Some(process::uptime().saturating_add(left));
            ending.hooks_drained = drain.hooks_drained;
        }
    }

    pub(super) fn abort(&mut self, why: &str) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.aborted) else {
            return;
        };
        drain.begin_abort();
        let elapsed_ms = self.shared.set_phase(Phase::Aborting);
        let tasks = self.shared.tasks.names();
        self.shared.tokens.aborting.cancel();
        let connections = self.shared.tracker.abort();
        self.shared.lane.close();
        drain.cut |=
            connections > 0 || !tasks.is_empty() || !drain.hooks_drained || self.main.is_none();
        macro_rules! say {
            ($level:ident) => {
                log::$level!(
                    phase = %Phase::Aborting,
                    generation = self.shared.generation,
                    pid = std::process::id(),
                    connections,
                    ?tasks,
                    elapsed_ms,
                    "{why}: what is left is cut"
                )
            };
        }
        // What somebody has asked for calls for no action of theirs.
        match why == DEADLINE {
            true => say!(warn),
            false => say!(info),
        }
        self.note(What::Aborting {
            why: why.to_owned(),
            connections,
            tasks: tasks.iter().map(ToString::to_string).collect(),
        });
        self.show_ending();
        if self.stops_the_service() {
            self.shorten_older(Duration::ZERO);
        }
    }

    /// What still drains has no longer than this generation. Not before the predecessor has said
    /// that it drains: until then it may serve on.
    pub(super) fn shorten_older(&mut self, left: Duration) {
        let shared = Arc::clone(&self.shared);
        let at = process::uptime().saturating_add(left);
        for old in &mut self.older {
            shorten(old, at, shared.options.kill_grace, &shared);
        }
    }

    /// Whether nobody serves after this generation, which has served.
    fn stops_the_service(&self) -> bool {
        let is_stop = self.drain.as_ref().is_some_and(|drain| drain.is_stop);
        is_stop && self.owner && self.shared.phase() >= Phase::Draining
    }

    pub(super) fn report_drain(&self) {
        let Some(drain) = self.drain.as_ref().filter(|drain| !drain.aborted) else {
            return;
        };
        drain.tick();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (connections, tasks) = (self.shared.tracker.open(), self.shared.tasks.names());
        let oldest_ms = self.shared.tracker.oldest().map(millis);
        let older = self.older.len();
        let left_ms = millis(drain.deadline.saturating_duration_since(Instant::now()));
        log::info!(
            phase = %Phase::Draining,
            generation = self.shared.generation,
            pid = std::process::id(),
            connections,
            oldest_ms,
            ?tasks,
            older,
            left_ms,
            "still draining"
        );
        self.note(What::DrainProgress {
            connections,
            oldest_ms,
            tasks: tasks.iter().map(ToString::to_string).collect(),
            older,
            left_ms,
        });
    }

    pub(super) fn report_overdue(&self) {
        let waiting = self.shared.waiting();
        if self.shared.phase() == Phase::Initialising && !waiting.is_empty() {
            log::warn!(
                endpoints = ?waiting,
                "listeners wait for connections, but `ready()` has not been called: nothing is \
                 accepted before"
            );
        }
    }

    /// See [`Shared::give_up_endpoints`].
    pub(super) fn give_up_endpoints(&self) {
        for warning in self.shared.give_up_endpoints() {
            log::warn!("{warning}");
        }
    }

    /// Whether nothing is left; drops main where that is all that is left.
    pub(super) fn has_ended(&mut self) -> bool {
        let main_ended = self.main.is_some();
        if let Some(drain) = self.drain.as_ref().filter(|_| !main_ended) {
            if drain.drop_main || self.is_quiet() && self.shared.tracker.is_resting() {
                self.end_main.cancel();
            }
        }
        main_ended && self.may_end()
    }

    /// Whether everything but main has come to its end.
    pub(super) fn awaits_main_only(&self) -> bool {
        self.main.is_none() && self.may_end()
    }

    /// Whether nothing runs that the drain waits for.
    fn is_quiet(&self) -> bool {
        let hooks_drained = self.drain.as_ref().is_some_and(|drain| drain.hooks_drained);
        hooks_drained && self.shared.tracker.open() == 0 && self.shared.tasks.is_empty()
    }

    /// Whether this generation has nothing left to do, beside what main does.
    fn may_end(&self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        // A successor takes the end of this process for `Released`.
        let may_exit = drain.is_stop || self.incumbent.may_exit();
        // One that starts or is being ended must not be left behind, nor an old generation that
        // blocks: nobody else could kill it, and each has the deadline of this stop.
        let left_behind = self.spawning
            || self.ending
            || self.undecided
            || self.stops_the_service() && self.older.iter().any(|old| old.pidfd.is_some());
        (self.is_quiet() && may_exit || drain.over) && !left_behind
    }

    /// Lets the last words to a neighbour reach it; one that does not read them sees the end. A
    /// predecessor that does not hear of a stop takes the end for a crash, and serves again.
    pub(super) async fn flush(&mut self) {
        self.hear_all();
        if let Some(handover) = &mut self.handover {
            handover.finish_forwarding().await;
        }
        self.note(What::Ended {
            accepted: self.shared.tracker.counts().accepted,
            cut: self.drain.as_ref().is_some_and(|drain| drain.cut),
            totals: self
                .drain
                .as_ref()
                .is_some_and(|drain| !drain.is_stop)
                .then(|| {
                    let own = self.shared.record.own_totals(self.shared.tracker.tallies());
                    Box::new(own)
                }),
        });
        if let Some(telling) = self.telling.take() {
            telling.finish().await;
        }
        let told = self.shared.options.integrations.finish();
        if tokio::time::timeout(LAST_ANSWERS, told).await.is_err() {
            log::debug!("somebody outside does not listen");
        }
        // After the integrations, whose clients may move at the last moment.
        let successor = self.handover.as_ref().and_then(Handover::peer);
        for peer in self.predecessor.iter().chain(successor) {
            let flushed = tokio::time::timeout(LAST_WORDS, peer.flush()).await;
            if flushed.is_err() {
                log::debug!("a neighbour does not read");
            }
        }
    }

    pub(super) fn finish(mut self) -> End {
        let drain = self.drain.take();
        let cut = drain.as_ref().is_some_and(|drain| drain.cut);
        if drain.as_ref().is_some_and(|drain| drain.is_stop) {
            if self.owner {
                // Those that last until now.
                for warning in self.shared.store.remove_paths() {
                    log::warn!("{warning}");
                }
            }
            if let Some(Err(error)) = pid_file(&self.shared).map(|file| file.remove()) {
                log::warn!(%error, "the pid file cannot be removed");
            }
        }
        log::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            accepted = self.shared.tracker.counts().accepted,
            elapsed_ms = drain.map(|drain| drain.since.elapsed().as_millis()),
            "ended"
        );
        End {
            cut,
            failed: self.failed,
        }
    }
}

pub(super) fn pid_file(shared: &Shared) -> Option<PidFile> {
    let path = shared.options.pid_file.clone()?;
    Some(PidFile::new(path, std::process::id()))
}

/// Why what is left is cut where nobody has asked for it.
pub(super) const DEADLINE: &str = "the deadline has come";
/// How long a neighbour that does not read may keep an ended generation.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long what is outside may keep it. Each integration has a shorter limit of its own for whoever
/// does not listen; this one is for a machine that has no time for the answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

//! The engine of a generation that hands over.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::ending::pid_file;
use crate::context::Successor as Taken;
use crate::error::Error;
use crate::lifecycle::event::What;
use crate::lifecycle::phase::Phase;
use crate::net::backoff::{Concern, concern};
use crate::net::gate::State;
use crate::protocol::incumbent;
use crate::protocol::{
    ALL_OFFERED, CONTROL, Capabilities, Cause, LATE_SOCKETS, Offer, Outcome, Role, Sockets,
    ToIncumbent, ToSuccessor, Versions, decode, encode,
};
use crate::run::handover::Handover;
use crate::run::input::{FromPeer, Input};
use crate::run::integration::Client;
use crate::run::onwards::Onwards;
use crate::run::peer::{DIED, Lent, Letter};
use crate::socket::{Description, Kind, Mark, Socket};
use crate::sys::log;
use crate::sys::spawn::Process;
use crate::sys::{pidfd, process, stdio};

impl Engine {
    pub(super) fn heard_from_successor(&mut self, from: FromPeer) {
        let record = match from {
            FromPeer::Record(record) => record,
            FromPeer::Broken(error) => {
                return self.hand_over(incumbent::Event::Garbage {
                    reason: error.to_string(),
                });
            }
            FromPeer::Gone(how)
                if how == DIED && self.handover.as_ref().is_some_and(Handover::lives_on) =>
            {
                return;
            }
            FromPeer::Gone(how) => {
                self.lane_lost();
                return self.hand_over(incumbent::Event::SuccessorGone { how });
            }
            FromPeer::Deserted => {
                self.close_lane();
                if self.drain.as_ref().is_some_and(|drain| !drain.is_stop) {
                    let how = self.handover.as_ref().and_then(Handover::end_of_successor);
                    log::warn!(how, "the successor has ended, and nobody serves");
                }
                return;
            }
        };
        match decode::<ToIncumbent>(&record.bytes) {
            Ok(message) => {
                log::debug!(protocol; ?message, "from the successor");
                if let (ToIncumbent::Taken { .. } | ToIncumbent::Moved { .. }, Some(peer)) =
                    (&message, self.handover.as_ref().and_then(Handover::peer))
                {
                    peer.taken();
                }
                if let (ToIncumbent::Accepted { pid, .. }, Some(handover)) =
                    (&message, &self.handover)
                {
                    handover.accepted(pid.unsigned_abs());
                }
                self.hand_over(incumbent::Event::Received(&message));
                self.offer_late();
                match message {
                    ToIncumbent::Events { events } => {
                        let successor = self.incumbent.successor_pid();
                        self.hear_events(events, |event| event.pid == successor);
                    }
                    ToIncumbent::Client { state } => {
                        let socket = record.descriptors.into_iter().next();
                        self.take_client(socket, state);
                    }
                    ToIncumbent::Credit {
                        connections,
                        generation,
                        consents,
                    } => self.credit(connections, generation, &consents),
                    ToIncumbent::Superseded { generation } => self.superseded(generation),
                    ToIncumbent::Moved { batch, refused } => self.moved(batch, refused),
                    _ => {}
                }
            }
            Err(garbage) => {
                self.hand_over(incumbent::Event::Garbage {
                    reason: garbage.to_string(),
                });
            }
        }
    }

    /// Serves a client that another generation has passed on.
    pub(super) fn take_client(&self, socket: Option<OwnedFd>, state: String) {
        match socket {
            Some(socket) => self
                .shared
                .options
                .integrations
                .take_client(Client { socket, state }),
            None => log::debug!("a client came without its socket"),
        }
    }

    /// Shows those who have clients where they go on.
    pub(super) fn show_successor(&self) {
        let peer = self.handover.as_ref().and_then(Handover::peer);
        let peer = peer.filter(|_| self.incumbent.successor_can(CONTROL));
        *self.shared.onwards() = peer.map(|peer| {
            let mut claimed = self.claimed.clone();
            if claimed.iter().any(|key| key == ALL_OFFERED) {
                claimed.extend(self.shared.store.keys_until(self.offered_until));
            }
            Onwards::new(peer.sender(), claimed)
        });
    }

    pub(super) fn spawned(&mut self, number: u64, result: io::Result<Process>) {
        self.spawning = false;
        let Some(handover) = self.handover.as_mut().filter(|now| now.number == number) else {
            return;
        };
        match result.and_then(|process| handover.run(process)) {
            Ok(pid) => {
                log::info!(
                    generation = self.shared.generation + 1,
                    pid,
                    "successor started"
                );
                self.note(What::SuccessorStarted { successor: pid });
                self.hand_over(incumbent::Event::Spawned { pid: pid as i32 });
            }
            Err(error) => {
                self.hand_over(incumbent::Event::SpawnFailed {
                    error: error.to_string(),
                });
                self.forget_handover();
            }
        }
    }

    /// Lets go of a successor of which nothing is left.
    pub(super) fn forget_handover(&mut self) {
        self.handover = None;
        self.shared.want_news(self.drain.is_some());
        for key in std::mem::take(&mut self.abandoned) {
            self.abandoned(key);
        }
        if self.close_unclaimed {
            self.close_unclaimed();
        }
    }

    pub(super) fn opened(&mut self, key: Arc<str>) {
        if self.drain.is_some() {
            // Nobody accepts from it and nobody else knows of it.
            for warning in self.shared.store.remove_bound_paths() {
                log::warn!("{warning}");
            }
            if self.owner {
                self.shared.store.close();
            }
            return;
        }
        let is_late = || self.shared.store.came_after(&key, self.offered_until);
        if self.handover.is_some() && is_late() {
            self.late.push(key);
            self.offer_late();
        }
    }

    /// Closes an endpoint that the service no longer listens on; not under a successor that may
    /// have claimed it, and not at the end, when servers drop their listeners one after the other.
    pub(super) fn abandoned(&mut self, key: Arc<str>) {
        // Before it serves, main drops its listeners because it ends.
        if self.drain.is_some() || self.shared.phase() < Phase::Serving {
            return;
        }
        if self.handover.is_some() {
            return self.abandoned.push(key);
        }
        for socket in self.shared.close(&key) {
            if self.owner {
                if let Err(error) = socket.remove_path() {
                    log::warn!(endpoint = %key, %error, "a path cannot be removed");
                }
            }
        }
        log::info!(socket; endpoint = %key, "endpoint closed: its listener was dropped");
    }

    /// Offers what was opened since the Offer, once the successor has said that it can take it.
    pub(super) fn offer_late(&mut self) {
        if self.late.is_empty() || !self.incumbent.successor_can(LATE_SOCKETS) {
            return;
        }
        for key in std::mem::take(&mut self.late) {
            self.send_to_successor(letters(self.shared.store.offer_of(&key)));
        }
    }

    pub(super) fn perform_as_incumbent(&mut self, action: incumbent::Action) {
        use incumbent::Action;
        match action {
            Action::Spawn => self.spawn(),
            Action::SendOffer => {
                if let Some(handover) = &mut self.handover {
                    handover.send_rest();
                }
            }
            Action::Send(message) => {
                self.tell_successor(&message);
                match message {
                    ToSuccessor::Stop {} => self.stops_both = true,
                    ToSuccessor::Commit {} => self.note(What::Commit {
                        successor: self.incumbent.successor_pid(),
                    }),
                    ToSuccessor::Released {} => {
                        self.note(What::Released {});
                        self.open_lane();
                    }
                    _ => {}
                }
            }
            Action::StartTimer(timer) => {
                let options = &self.shared.options;
                let after = match timer {
                    incumbent::Timer::Ready => self
                        .waiting
                        .as_ref()
                        .and_then(|asker| asker.changes.as_ref()?.ready_timeout)
                        .unwrap_or(options.ready_timeout),
                    incumbent::Timer::Commit | incumbent::Timer::Probation => {
                        options.commit_timeout
                    }
                };
                if let Some(handover) = &mut self.handover {
                    handover.start_timer(timer, after);
                }
            }
            Action::StopTimer(timer) => {
                if let Some(handover) = &mut self.handover {
                    handover.stop_timer(timer);
                }
            }
            Action::Park { claimed } => {
                self.shared.set_gates_of(
                    &claimed,
                    self.offered_until,
                    Kind::is_datagram,
                    State::Shut,
                );
                self.note(What::SuccessorReady {
                    successor: self.incumbent.successor_pid(),
                });
                self.claimed = claimed;
                self.hand_over(incumbent::Event::Parked);
            }
            Action::Unpark => {
                self.shared.set_gates_of(
                    &self.claimed,
                    self.offered_until,
                    Kind::is_datagram,
                    State::Open,
                );
            }
            Action::CloseGates { claimed } => {
                self.shared.set_gates_of(
                    &claimed,
                    self.offered_until,
                    Kind::is_stream,
                    State::Shut,
                );
                self.note(What::SuccessorServes {
                    successor: self.incumbent.successor_pid(),
                });
            }
            // What was parked stays so until the successor has ended.
            Action::ReopenGates => {
                self.shared.set_gates_of(
                    &self.claimed,
                    self.offered_until,
                    Kind::is_stream,
                    State::Open,
                );
            }
            Action::EndSuccessor => {
                self.ending = true;
                if let Some(handover) = &mut self.handover {
                    handover.end();
                }
            }
            Action::KillSuccessor => {
                self.ending = false;
                if let Some(handover) = &self.handover {
                    handover.kill();
                }
            }
            Action::BeginDrain => self.begin_drain(false),
            Action::BeginStop => self.begin_stop(),
            Action::ShortenDeadline(deadline) => self.shorten(deadline),
            Action::AbortDrain => self.hurry(),
            Action::RunOnActive => self.run_on_active(),
            Action::Report(outcome) => self.report(outcome),
            Action::Refuse(refusal) => self.answer(Error::refused(refusal)),
        }
    }

    pub(super) fn spawn(&mut self) {
        self.handovers += 1;
        self.waiting = self.asking.take();
        self.late.clear();
        self.shared.want_news(true);
        log::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            "handover begins"
        );
        self.note(What::HandoverBegins {});
        if self.handovers == 1 && self.origin.start.terminal && process::is_in_foreground() {
            log::info!(
                "this process is in the foreground of a terminal, which will take the prompt back \
                 when it has drained: the successor goes on in the background"
            );
        }
        self.spawning = true;
        let number = self.handovers;
        let mut handover = Handover::new(number, self.shared.queue.clone());
        let mut until = Mark::default();
        let program = || {
            let program = &self.shared.options.program;
            let asker = self.waiting.as_ref();
            match asker.and_then(|asker| asker.changes.as_ref()) {
                Some(changes) => program
                    .changed(&changes.program)
                    .resolve(&self.origin.start),
                None => program.resolve(&self.origin.start),
            }
        };
        let offer = |pipe, post: &mut dyn FnMut(_, _)| {
            let (letters, mark) = self.offer(pipe, post)?;
            until = mark;
            Ok(letters)
        };
        let started = match std::process::id() {
            1 => Err(io::Error::other(
                "this process is PID 1, and the kernel would end the successor with it",
            )),
            _ => handover.start(program, self.origin.blocked, offer),
        };
        self.offered_until = until;
        self.handover = Some(handover);
        if let Err(error) = started {
            let result = Err(error);
            self.shared.send(Input::Spawned {
                handover: number,
                result,
            });
        }
    }

    /// Posts the Offer, with the number of sockets, and gives the letters with those.
    ///
    /// What this process does not have is left out. What it has and cannot copy for a lack of
    /// descriptors is an error: a successor without it would serve, and write to a closed pipe.
    pub(super) fn offer(
        &self,
        pipe: Lent,
        post: &mut dyn FnMut(Letter, usize),
    ) -> io::Result<(impl Iterator<Item = Letter> + use<>, Mark)> {
        let mut descriptors = Vec::new();
        let mut roles = Vec::new();
        let mut lend = |role, fd: io::Result<OwnedFd>| match fd {
            Ok(fd) => {
                roles.push(role);
                descriptors.push(Lent::Other(Arc::new(fd)));
                Ok(())
            }
            Err(error) if concern(&error) == Concern::Resources => Err(error),
            Err(error) => {
                log::debug!(?role, %error, "nothing to lend");
                Ok(())
            }
        };
        lend(Role::IncumbentPidfd, pidfd::open(std::process::id()))?;
        lend(Role::Stdin, stdio::copy_stdin())?;
        lend(Role::Stderr, stdio::copy_stderr())?;
        roles.push(Role::StderrPipe);
        descriptors.push(pipe);
        for pipe in self.open_stderr_pipes() {
            roles.push(Role::OlderStderrPipe);
            descriptors.push(Lent::Other(pipe));
        }
        let mut older = Vec::new();
        for old in &self.older {
            if let Some(pidfd) = &old.pidfd {
                older.push(old.describe());
                roles.extend([Role::OlderChannel, Role::OlderPidfd]);
                descriptors.push(Lent::Other(Arc::clone(&old.channel)));
                descriptors.push(Lent::Other(Arc::clone(pidfd)));
            }
        }
        let options = &self.shared.options;
        let millis = |time: Duration| u64::try_from(time.as_millis()).ok();
        let announce = |sockets| {
            let offer = Offer {
                versions: Versions::OURS,
                capabilities: Capabilities::ours(),
                generation: self.shared.generation.saturating_add(1),
                pid: std::process::id() as i32,
                process_group: Some(process::group()),
                sockets: u32::try_from(sockets).unwrap_or(u32::MAX),
                mask: self
                    .origin
                    .mask
                    .iter()
                    .map(|signal| signal as i32)
                    .collect(),
                drain_timeout_ms: millis(options.drain_timeout),
                kill_grace_ms: millis(options.kill_grace),
                probation_ms: 0,
                older,
                descriptors: roles,
            };
            if let Some(offer) = letter(&ToSuccessor::Offer(offer), descriptors) {
                post(offer, sockets);
            }
        };
        // What is told of those that came until here is told twice: a successor that got one of them
        // twice would remove its path with the one that it has not claimed.
        let (entries, until) = self.shared.store.offer(announce);
        Ok((letters(entries), until))
    }

    pub(super) fn tell_successor(&self, message: &ToSuccessor) {
        self.send_to_successor(letter(message, Vec::new()));
    }

    fn send_to_successor(&self, letters: impl IntoIterator<Item = Letter>) {
        if let Some(peer) = self.handover.as_ref().and_then(Handover::peer) {
            letters.into_iter().for_each(|letter| peer.send(letter));
        }
    }

    pub(super) fn run_on_active(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.active = Some(tokio::spawn(async move {
            shared.components.active(shared.options.hook_timeout).await;
            log::info!(
                generation = shared.generation,
                pid = std::process::id(),
                "active"
            );
            shared.record.note(What::Active {});
        }));
    }

    /// Answers whoever asked, when the handover has ended well or badly.
    pub(super) fn report(&mut self, outcome: Outcome) {
        let Some(handover) = &self.handover else {
            return;
        };
        let (generation, since) = (self.shared.generation, handover.since);
        let elapsed = since.elapsed();
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let answer = match outcome {
            Outcome::Committed { pid } => {
                log::info!(
                    generation = generation + 1,
                    pid,
                    elapsed_ms,
                    "handover committed: the successor serves"
                );
                self.note(What::Committed {
                    successor: pid as u32,
                    elapsed_ms,
                });
                let generation = generation + 1;
                Ok(Taken {
                    pid: pid as u32,
                    generation,
                    elapsed,
                })
            }
            Outcome::Failed(failure) => {
                let lines = handover.last_lines();
                log::error!(
                    generation,
                    stage = %failure.stage,
                    component = failure.component,
                    exit = failure.ended,
                    elapsed_ms,
                    stderr = lines[lines.len().saturating_sub(LINES)..].join(" | "),
                    "handover failed, this generation serves on: {failure}"
                );
                if !tracing::dispatcher::has_been_set() {
                    // Nobody collects events, and an operator must not be left without an answer.
                    let generation = format_args!("generation {generation} serves on: {failure}");
                    writeln!(io::stderr(), "handover failed, {generation}").ok();
                }
                self.note(What::HandoverFailed {
                    stage: failure.stage.to_string(),
                    component: failure.component.clone(),
                    error: failure.to_string(),
                    cause: match &failure.cause {
                        Cause::Gone(_) if failure.ended.is_some() => String::new(),
                        cause => cause.to_string(),
                    },
                    exit: failure.ended.clone(),
                    stderr: lines.iter().map(|line| shortened(line)).collect(),
                    elapsed_ms,
                });
                self.assert_pid_file();
                Err(Error::handover(failure, lines))
            }
            Outcome::Aborted(abort) => {
                log::info!(generation, elapsed_ms, "handover called off: {abort}");
                self.note(What::HandoverCalledOff {
                    reason: abort.to_string(),
                    elapsed_ms,
                });
                Err(Error::aborted(abort))
            }
        };
        if let Some(reply) = self.waiting.take().and_then(|asker| asker.reply) {
            // Whoever asked may have gone.
            reply.send(answer).ok();
        }
    }

    /// Answers a trigger that is not accepted.
    pub(super) fn answer(&mut self, error: Error) {
        log::warn!(generation = self.shared.generation, "{error}");
        self.note(What::HandoverRefused {
            reason: error.to_string(),
        });
        if let Some(reply) = self.asking.take().and_then(|asker| asker.reply) {
            reply.send(Err(error)).ok();
        }
    }

    pub(super) fn write_pid_file(&self) {
        if let Some(Err(error)) = pid_file(&self.shared).map(|file| file.write()) {
            log::error!(%error, "no pid file");
        }
    }

    pub(super) fn assert_pid_file(&self) {
        if let Some(Err(error)) = pid_file(&self.shared).map(|file| file.assert()) {
            log::error!(%error, "no pid file");
        }
    }
}

/// How many lines of the successor's standard error stand in the report again.
const LINES: usize = 5;

/// Sockets, in as many records as they need.
fn letters(entries: Vec<(Description, Arc<Socket>)>) -> impl Iterator<Item = Letter> {
    let (descriptions, sockets): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    let mut sockets = sockets.into_iter().map(Lent::Socket);
    Sockets::split(descriptions).filter_map(move |part| {
        let lent = sockets.by_ref().take(part.entries.len()).collect();
        letter(&ToSuccessor::Sockets(part), lent)
    })
}

pub(super) fn letter(message: &ToSuccessor, descriptors: Vec<Lent>) -> Option<Letter> {
    log::debug!(protocol; ?message, "to the successor");
    match encode(message) {
        Ok(record) => Some(Letter {
            record,
            descriptors,
        }),
        Err(error) => {
            log::error!(%error, "a message to the successor is too long");
            None
        }
    }
}

/// The beginning of a line of others, as much as is worth keeping.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(MOST_OF_A_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// How many characters of a line of standard error are kept.
const MOST_OF_A_LINE: usize = 500;

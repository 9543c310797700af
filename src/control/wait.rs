//! Requests whose answer takes its time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::oneshot;

use super::answer::{self, Complaint};
use super::connection::{Connection, Over, Pending};
use super::older;
use super::request::Until;
use super::timeline::{Outcome, Timeline, timelines};
use crate::context::Successor;
use crate::error::Error;
use crate::lifecycle::event::{Event, What};
use crate::run::{Changes, Input, Shared};
use crate::sys::{log, process};

impl Connection {
    /// A handover. It goes on when the client does not wait for it.
    pub(super) async fn upgrade(
        &mut self,
        id: Option<Value>,
        extra: Map<String, Value>,
        changes: Changes,
        until: Until,
    ) -> Result<(), Over> {
        let shared = Arc::clone(&self.host.shared);
        let (_, mut events) = shared.record.watch();
        let began_us = super::status::micros(process::uptime());
        let (reply, mut answer) = oneshot::channel();
        shared.send(Input::Trigger {
            asker: shared.next_asker(),
            reply: Some(reply),
            changes: Some(Box::new(changes)),
        });
        if until == Until::Begun {
            // What was refused is answered by now.
            shared.settled().await;
            return match answer.try_recv() {
                Ok(Err(error)) => self.no_handover(id, &error, began_us).await,
                Ok(Ok(_)) | Err(oneshot::error::TryRecvError::Empty) => {
                    let by = json!({ "incumbent": own(&self.host.shared) });
                    self.answer("upgrade", id, extra, by).await
                }
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.no_handover(id, &Error::engine(), began_us).await
                }
            };
        }
        let taken = loop {
            tokio::select! {
                biased;
                event = events.recv() => {
                    if let Ok(event) = event {
                        self.progress(&id, &event, is_start).await?;
                    }
                }
                taken = &mut answer => break taken.unwrap_or_else(|_| Err(Error::engine())),
            }
        };
        let Successor {
            pid,
            generation,
            elapsed,
            ..
        } = match taken {
            Ok(successor) => successor,
            Err(error) => return self.no_handover(id, &error, began_us).await,
        };
        let mut fields = extra;
        let elapsed_us = super::status::micros(elapsed);
        fields.extend(answer::fields(json!({
            "incumbent": own(&shared),
            "successor": { "generation": generation, "pid": pid },
            "elapsed_us": elapsed_us,
        })));
        if until == Until::Drained {
            return self.drained(id, std::process::id(), began_us, fields).await;
        }
        let handover = self.handover(std::process::id(), began_us);
        fields.insert("handover".to_owned(), json!(handover));
        self.answer("upgrade", id, fields, Value::Null).await
    }

    async fn no_handover(
        &mut self,
        id: Option<Value>,
        error: &Error,
        began_us: u64,
    ) -> Result<(), Over> {
        let shared = &self.host.shared;
        let mut complaint = Complaint::of_handover(error).with("incumbent", own(shared));
        if !error.is_refused() {
            let handover = self.handover(std::process::id(), began_us);
            complaint = complaint.with("handover", json!(handover));
        }
        self.say(&complaint.line(id.as_ref())).await
    }

    /// The handover of an incumbent that began after the request.
    fn handover(&self, pid: u32, began_us: u64) -> Option<Timeline> {
        let mut handovers = timelines(&self.host.shared.record.events());
        handovers.retain(|one| one.incumbent.pid == pid && one.began_us >= began_us);
        handovers.into_iter().next()
    }

    /// Waits for the end of a generation that drains: here, until this process ends, or in the
    /// successor.
    pub(super) async fn drained(
        &mut self,
        id: Option<Value>,
        pid: u32,
        began_us: u64,
        mut answer: Map<String, Value>,
    ) -> Result<(), Over> {
        let shared = Arc::clone(&self.host.shared);
        let (signs, (_, mut events)) = (self.signs(), shared.record.watch());
        let mut older = shared.older.subscribe();
        let is_own = pid == std::process::id();
        let lives = |older: &[crate::run::Old]| is_own || older.iter().any(|old| old.pid == pid);
        while lives(&older.borrow_and_update()) {
            tokio::select! {
                biased;
                () = signs.leaving() => {
                    return Err(Over::Moves(Some(Pending::Drained { id, pid, began_us, answer })));
                }
                event = events.recv() => {
                    if let Ok(event) = event {
                        self.progress(&id, &event, |event| is_drain(event, pid)).await?;
                    }
                }
                () = signs.ended() => break,
                // Without a sender the lifecycle task has ended, and that is told as well.
                Ok(()) = older.changed() => {}
            }
        }
        // Its end may be seen before its last words are read.
        let told = async {
            let has_ended =
                |event: &Event| event.pid == pid && matches!(event.what, What::Ended { .. });
            while !shared.record.events().iter().any(|event| has_ended(event)) {
                events.recv().await.ok();
            }
        };
        if !is_own && tokio::time::timeout(PATIENCE, told).await.is_err() {
            log::debug!(pid, "the last words of an older generation are missing");
        }
        let handover = self.handover(pid, began_us);
        let cut = shared
            .record
            .events()
            .iter()
            .find_map(|event| match event.what {
                What::Ended { cut, .. } if event.pid == pid => Some(cut),
                _ => None,
            });
        answer.insert("handover".to_owned(), json!(handover));
        answer.insert("drained".to_owned(), true.into());
        answer.insert("cut".to_owned(), json!(cut));
        self.answer("upgrade", id, answer, Value::Null).await?;
        match is_own {
            true => Err(Over::Ended),
            false => Ok(()),
        }
    }

    /// A stop; the end of the process is that of the connection.
    pub(super) async fn stop(
        &mut self,
        id: Option<Value>,
        extra: Map<String, Value>,
        wait: bool,
    ) -> Result<(), Over> {
        let shared = Arc::clone(&self.host.shared);
        let (signs, (_, mut events)) = (self.signs(), shared.record.watch());
        shared.send(Input::Stop {
            by: "the control socket",
        });
        let by = json!({ "generation": own(&shared) });
        if !wait {
            return self.answer("stop", id, extra, by).await;
        }
        let pid = std::process::id();
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(event) => self.progress(&id, &event, |event| is_drain(event, pid)).await?,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(Over::Ended),
                },
                () = signs.ended() => break,
            }
        }
        let cut = shared
            .record
            .events()
            .iter()
            .find_map(|event| match event.what {
                What::Ended { cut, .. } if event.pid == pid => Some(cut),
                _ => None,
            });
        let mut extra = extra;
        extra.insert("stopped".to_owned(), true.into());
        extra.insert("cut".to_owned(), json!(cut));
        self.answer("stop", id, extra, by).await?;
        Err(Over::Ended)
    }

    /// The end of the successor that is being started; the answer comes when it has ended.
    pub(super) async fn call_off(
        &mut self,
        id: Option<Value>,
        extra: Map<String, Value>,
    ) -> Result<(), Over> {
        let shared = Arc::clone(&self.host.shared);
        let (_, mut events) = shared.record.watch();
        let (reply, called_off) = oneshot::channel();
        shared.send(Input::CallOff { reply });
        if !called_off.await.unwrap_or(false) {
            let complaint = Complaint::new(
                "nothing_begun",
                "no handover is under way that could be called off: where the successor serves, it stays",
            );
            return self.say(&complaint.line(id.as_ref())).await;
        }
        let is_over = |event: &Event| {
            event.pid == std::process::id() && matches!(event.what, What::HandoverCalledOff { .. })
        };
        loop {
            match events.recv().await {
                Ok(event) if is_over(&event) => break,
                // What was missed may be it.
                Err(RecvError::Lagged(_))
                    if shared.record.events().iter().any(|event| is_over(event)) =>
                {
                    break;
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(Over::Ended),
            }
        }
        let successor = timelines(&shared.record.events()).pop();
        let successor = successor.and_then(|handover| handover.successor);
        let told = json!({ "called_off": successor, "incumbent": own(&shared) });
        self.answer("abort", id, extra, told).await
    }

    /// The end of what drains.
    pub(super) async fn abort(
        &mut self,
        id: Option<Value>,
        extra: Map<String, Value>,
        generation: Option<u32>,
        only_own: bool,
    ) -> Result<(), Over> {
        let shared = Arc::clone(&self.host.shared);
        let is_meant = |number: u32| generation.is_none_or(|meant| meant == number);
        let mut aborted = Vec::new();
        let drains = shared.ending().deadline.is_some() || shared.tokens.stopping.is_cancelled();
        if drains && (only_own || is_meant(shared.generation)) {
            shared.send(Input::Abort {
                by: "the control socket",
            });
            shared.settled().await;
            aborted.push(own(&shared));
        }
        let older = shared.older.borrow().clone();
        let older = older.iter().filter(|_| !only_own);
        for old in older.filter(|old| is_meant(old.generation)) {
            let request = json!({ "request": "abort", "own": true });
            let asked = tokio::time::timeout(PATIENCE, older::ask(old, &request)).await;
            if matches!(&asked, Ok(Ok(answer)) if answer.contains_key("aborted")) {
                aborted.push(json!({ "generation": old.generation, "pid": old.pid }));
            } else if generation.is_some() {
                let message = format!(
                    "generation {} (pid {}) does not answer; it is killed at its deadline",
                    old.generation, old.pid
                );
                let complaint = Complaint::new("unanswered", message);
                return self.say(&complaint.line(id.as_ref())).await;
            }
        }
        if aborted.is_empty() {
            let message = match generation {
                Some(number) => format!("generation {number} does not drain"),
                None if is_under_way(&shared) => {
                    "no generation drains; the handover that is under way is called off by \
                     `handover abort --upgrade`"
                        .to_owned()
                }
                None => "no generation drains".to_owned(),
            };
            let complaint = Complaint::new("nothing_drains", message);
            return self.say(&complaint.line(id.as_ref())).await;
        }
        self.answer("abort", id, extra, json!({ "aborted": aborted }))
            .await
    }

    /// What has happened since a time, and with `follow` whatever happens. `seen` is what the client
    /// has got from the predecessor.
    pub(super) async fn events(
        &mut self,
        id: Option<Value>,
        since_us: u64,
        follow: bool,
        mut seen: BTreeMap<u32, u64>,
    ) -> Result<(), Over> {
        let shared = Arc::clone(&self.host.shared);
        let (signs, (known, mut events)) = (self.signs(), shared.record.watch());
        let before = seen.clone();
        let is_new = |event: &Event| {
            let after = before
                .get(&event.pid)
                .is_none_or(|&seen| event.at_us > seen);
            event.at_us >= since_us && after
        };
        let mut count = 0_u64;
        for event in known.iter().filter(|event| is_new(event)) {
            self.event(&id, event, &mut seen).await?;
            count += 1;
        }
        if !follow {
            let told = json!({ "count": count });
            return self.answer("events", id, Map::new(), told).await;
        }
        loop {
            let next = tokio::select! {
                biased;
                next = events.recv() => next,
                () = signs.leaving() => {
                    self.rest(&id, &mut events, &is_new, &mut seen).await?;
                    return Err(Over::Moves(Some(Pending::Events { id, since_us, seen })));
                }
                () = signs.ended() => {
                    self.rest(&id, &mut events, &is_new, &mut seen).await?;
                    return Err(Over::Ended);
                }
                () = signs.giving_way() => return Err(Over::Gone),
                () = self.gone() => return Err(Over::Gone),
            };
            match next {
                Ok(event) if is_new(&event) => self.event(&id, &event, &mut seen).await?,
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => {
                    self.say(&answer::missed(id.as_ref(), count)).await?;
                }
                Err(RecvError::Closed) => return Err(Over::Ended),
            }
        }
    }

    /// What was recorded before this moment.
    async fn rest(
        &mut self,
        id: &Option<Value>,
        events: &mut Receiver<Arc<Event>>,
        is_new: &impl Fn(&Event) -> bool,
        seen: &mut BTreeMap<u32, u64>,
    ) -> Result<(), Over> {
        loop {
            match events.try_recv() {
                Ok(event) if is_new(&event) => self.event(id, &event, seen).await?,
                Ok(_) => {}
                Err(TryRecvError::Lagged(count)) => {
                    self.say(&answer::missed(id.as_ref(), count)).await?;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn event(
        &mut self,
        id: &Option<Value>,
        event: &Event,
        seen: &mut BTreeMap<u32, u64>,
    ) -> Result<(), Over> {
        let last = seen.entry(event.pid).or_default();
        *last = event.at_us.max(*last);
        match answer::event("event", id.as_ref(), event) {
            Some(line) => self.say(&line).await,
            None => Ok(()),
        }
    }

    async fn progress(
        &mut self,
        id: &Option<Value>,
        event: &Event,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Result<(), Over> {
        match answer::event("progress", id.as_ref(), event) {
            Some(line) if is_wanted(event) => self.say(&line).await,
            _ => Ok(()),
        }
    }
}

/// What tells how far a successor has come. How it ends, the answer tells.
fn is_start(event: &Event) -> bool {
    matches!(
        event.what,
        What::SuccessorStarted { .. }
            | What::Executed {}
            | What::Adopted { .. }
            | What::Initialising { .. }
            | What::Hook { .. }
            | What::SuccessorReady { .. }
            | What::Commit { .. }
            | What::SuccessorServes { .. }
            | What::Committed { .. }
    )
}

/// What tells how far the drain of a process has come.
fn is_drain(event: &Event, pid: u32) -> bool {
    let is_drain = matches!(
        event.what,
        What::Committed { .. }
            | What::LameDuck { .. }
            | What::Draining { .. }
            | What::DrainProgress { .. }
            | What::Aborting { .. }
            | What::Released {}
    );
    is_drain && event.pid == pid
}

fn is_under_way(shared: &Shared) -> bool {
    let last = timelines(&shared.record.events()).pop();
    last.is_some_and(|handover| handover.outcome == Outcome::UnderWay)
}

fn own(shared: &Shared) -> Value {
    json!({ "generation": shared.generation, "pid": std::process::id() })
}

/// How long a generation that drains may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

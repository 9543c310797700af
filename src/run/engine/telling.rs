//! What happens in a generation that drains is told to the one that serves: all that its record has,
//! and all that comes into it, so that the newest generation knows of every older one. And what
//! happens in one that starts is told to the one before it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::Engine;
use super::incumbent::letter;
use crate::lifecycle::event::Event;
use crate::protocol::{EVENTS, Raw, ToIncumbent, ToSuccessor, decode, encode};
use crate::run::assisted::Finishing;
use crate::run::handover::Handover;
use crate::run::peer::Letter;
use crate::sys::log;

impl Engine {
    /// Begins to tell the successor what has happened and what happens.
    pub(super) fn begin_telling(&mut self) {
        let Some(peer) = self.handover.as_ref().and_then(Handover::peer) else {
            return;
        };
        if !self.incumbent.successor_can(EVENTS) {
            return;
        }
        let (successor, sender) = (self.incumbent.successor_pid(), peer.sender());
        let tell = move |events: &[Arc<Event>]| {
            // What the successor has told itself, it knows.
            let told = events.iter().filter(|event| event.pid != successor);
            ToSuccessor::events(as_json(told))
                .filter_map(|message| letter(&message, Vec::new()))
                .for_each(|letter| sender.send(letter));
        };
        let (before, mut news) = self.shared.record.watch();
        self.telling = Some(Finishing::spawn(|over| async move {
            tell(&before);
            loop {
                tokio::select! {
                    biased;
                    event = news.recv() => match event {
                        Ok(event) => tell(&[event]),
                        Err(RecvError::Lagged(missed)) => log::debug!(missed, "events are not told"),
                        Err(RecvError::Closed) => return,
                    },
                    () = over.cancelled() => break,
                }
            }
            loop {
                match news.try_recv() {
                    Ok(event) => tell(&[event]),
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => return,
                }
            }
        }));
    }

    /// Has the predecessor told what happens until this generation serves.
    pub(super) fn tell_of_the_start(&self) {
        let can = self
            .offered
            .as_ref()
            .is_some_and(|offered| offered.offer.capabilities.has(EVENTS));
        let (true, Some(peer)) = (can, &self.predecessor) else {
            return;
        };
        let (sender, hastened) = (peer.sender(), Arc::clone(&self.shared.hastened));
        self.shared.record.forward(Some(Box::new(move |events| {
            let events = as_json(events.iter());
            match encode(&ToIncumbent::Events { events }) {
                // Not from a thread that waits: the predecessor may run in its place then.
                Ok(record) => match hastened.load(Ordering::SeqCst) {
                    true => sender.send_later(Letter::plain(record)),
                    false => sender.send(Letter::plain(record)),
                },
                Err(error) => log::debug!(%error, "an event is too long to be told"),
            }
        })));
    }

    /// Records what a neighbour tells and can know of.
    pub(super) fn hear_events(&self, events: Vec<Raw>, can_know: impl Fn(&Event) -> bool) {
        for event in events {
            match serde_json::from_str::<Event>(event.text()) {
                Ok(event) if can_know(&event) => self.shared.record.insert(event),
                Ok(event) => log::debug!(?event, "not an event that a neighbour can know of"),
                Err(error) => log::debug!(%error, "not an event"),
            }
        }
    }

    /// Keeps events that an older generation tells until there is nothing else to do: all that it
    /// remembers comes at once, just when its connections do.
    pub(super) fn hear_later(&mut self, record: Vec<u8>) {
        self.unheard.push_back(record);
    }

    /// Hears some of what was kept.
    pub(super) fn hear_some(&mut self) {
        let record = self.unheard.pop_front();
        match record.map(|record| decode(&record)) {
            Some(Ok(ToSuccessor::Events { events })) => {
                self.hear_events(events, |event| self.is_of_others(event));
            }
            Some(Err(garbage)) => log::debug!(%garbage, "an older generation is not understood"),
            Some(Ok(_)) | None => {}
        }
    }

    /// Hears all that was kept, ahead of something that has happened since.
    pub(super) fn hear_all(&mut self) {
        while !self.unheard.is_empty() {
            self.hear_some();
        }
    }

    /// Whether it has happened in an older generation, or in a successor that has failed before this
    /// one.
    pub(super) fn is_of_others(&self, event: &Event) -> bool {
        event.generation <= self.shared.generation && event.pid != std::process::id()
    }
}

/// Events as a neighbour is told them. One that only a newer generation knows has no form here.
fn as_json<'a>(events: impl Iterator<Item = &'a Arc<Event>>) -> Vec<Raw> {
    events.filter_map(|event| Raw::of(&**event)).collect()
}

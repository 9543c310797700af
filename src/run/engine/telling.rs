//! What happens in a generation that drains is told to the one that serves: all that its record has,
//! and all that comes into it, so that the newest generation knows of every older one.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinHandle;

use super::Engine;
use super::incumbent::letter;
use crate::lifecycle::event::Event;
use crate::lifecycle::link::Link;
use crate::lifecycle::token::Token;
use crate::protocol::{EVENTS, ToSuccessor, decode};
use crate::run::handover::Handover;
use crate::run::input::Input;
use crate::sys::channel::{Channel, Record};
use crate::sys::log;

/// The task that tells the successor.
#[derive(Debug)]
pub(super) struct Telling {
    task: JoinHandle<()>,
    over: Token,
}

impl Telling {
    /// Queues what has come into the record so far, and ends.
    pub(super) async fn finish(self) {
        self.over.cancel();
        // A panic in there is as good as its end.
        self.task.await.ok();
    }
}

impl Engine {
    /// Begins to tell the successor what has happened and what happens.
    pub(super) fn begin_telling(&mut self) {
        let Some(peer) = self.handover.as_ref().and_then(Handover::peer) else {
            return;
        };
        if !self.incumbent.successor_can(EVENTS) {
            return;
        }
        let (generation, say) = (self.shared.generation, peer.mouth());
        let tell = move |events: &[Arc<Event>]| {
            // What the successor has told itself, it knows.
            let known = events.iter().filter(|event| event.generation <= generation);
            let values = known.filter_map(|event| serde_json::to_value(&**event).ok());
            ToSuccessor::events(values.collect())
                .filter_map(|message| letter(&message, Vec::new()))
                .for_each(&say);
        };
        let (before, mut news) = self.shared.record.watch();
        let over = Token::new();
        let ended = over.clone();
        let task = tokio::spawn(async move {
            tell(&before);
            loop {
                tokio::select! {
                    biased;
                    event = news.recv() => match event {
                        Ok(event) => tell(&[event]),
                        Err(RecvError::Lagged(missed)) => log::debug!(missed, "events are not told"),
                        Err(RecvError::Closed) => return,
                    },
                    () = ended.cancelled() => break,
                }
            }
            loop {
                match news.try_recv() {
                    Ok(event) => tell(&[event]),
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => return,
                }
            }
        });
        self.telling = Some(Telling { task, over });
    }

    /// Takes what older generations tell into the record.
    pub(super) fn hear_events(&self, events: Vec<serde_json::Value>) {
        for event in events {
            match serde_json::from_value::<Event>(event) {
                Ok(event) if event.generation < self.shared.generation => {
                    self.shared.record.insert(event);
                }
                Ok(event) => log::debug!(?event, "not an event of an older generation"),
                Err(error) => log::debug!(%error, "not an event"),
            }
        }
    }

    /// Reads what an older generation says, where the one that followed it, whose part that was, has
    /// gone. Of several that are left each reads those ahead of the one that it followed itself.
    pub(super) fn listen_to_older(&mut self) {
        let predecessor = self.shared.predecessor.as_ref();
        let predecessor = predecessor.map(|predecessor| predecessor.generation);
        let Some(old) = self
            .older
            .last_mut()
            .filter(|old| !old.heard && Some(old.generation) != predecessor)
        else {
            return;
        };
        old.heard = true;
        let link = || -> io::Result<Link> {
            Link::new(Channel::from(old.channel.as_fd().try_clone_to_owned()?))
        };
        let queue = self.shared.queue.clone();
        match link() {
            Ok(link) => drop(tokio::spawn(async move {
                let hear = |record| {
                    queue.send(Input::Older(record)).ok();
                };
                while let Ok(true) = link.receive(hear).await {}
            })),
            Err(error) => log::debug!(%error, "an older generation cannot be listened to"),
        }
    }

    pub(super) fn heard_from_older(&self, record: &Record) {
        match decode::<ToSuccessor>(&record.bytes) {
            Ok(ToSuccessor::Events { events }) => self.hear_events(events),
            // It was meant for the one that has gone.
            other => log::debug!(?other, "from an older generation"),
        }
    }
}

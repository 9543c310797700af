//! What the clients of a load have seen, for loads made of the client libraries of others.

use std::fmt::Display;
use std::sync::Arc;

use handover_tests::{Identity, Signal, within};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Running, signal};

/// A running load.
#[derive(Debug)]
pub(crate) struct Tally {
    seen: Arc<watch::Sender<Seen>>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

/// One client's share of it.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    seen: Arc<watch::Sender<Seen>>,
    stop: watch::Receiver<bool>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    /// Requests that were not sent, or not processed, because their client was told to go; it has sent them anew.
    pub(crate) unsent: u64,
    /// Streams that the server has ended with a status.
    pub(crate) ended: u64,
    pub(crate) failures: Vec<String>,
    newest: Option<Identity>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            seen: Arc::default(),
            stop: watch::Sender::new(false),
            clients: JoinSet::new(),
        }
    }

    /// Adds a client, which goes on until it is told to stop.
    pub(crate) fn add<F>(&mut self, client: impl FnOnce(Share) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let share = Share {
            seen: Arc::clone(&self.seen),
            stop: self.stop.subscribe(),
        };
        self.clients.spawn(client(share));
    }

    /// Hands over `count` times, each time when the clients have seen the one before.
    pub(crate) async fn hand_over(&self, running: &Running, count: u32) {
        for generation in 1..=count {
            let incumbent = self.newest(generation).await;
            signal(incumbent, Signal::HUP);
            self.newest(generation + 1).await;
            // Of those that drain at once the oldest is cut when there are too many.
            if let Some(old @ 1..) = generation.checked_sub(2) {
                running.ended(old).await;
            }
        }
    }

    /// Waits for an answer of this generation or a later one.
    async fn newest(&self, generation: u32) -> Identity {
        let mut seen = self.seen.subscribe();
        let newest = |seen: &Seen| {
            let newest = seen.newest?;
            (newest.generation >= generation).then_some(newest)
        };
        let what = format_args!("an answer of generation {generation}").to_string();
        let seen = within(what, seen.wait_for(|seen| newest(seen).is_some())).await;
        let seen = seen.expect("this tally holds the sender");
        newest(&seen).expect("it was waited for")
    }

    /// Waits until something was seen.
    pub(crate) async fn wait_for(&self, what: &str, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let seen = within(what, seen.wait_for(condition)).await;
        drop(seen.expect("this tally holds the sender"));
    }

    /// Lets every client finish what it does, and tells what was seen.
    pub(crate) async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        while let Some(client) = within("the end of a client", self.clients.join_next()).await {
            client.expect("a client does not panic");
        }
        self.seen.borrow().clone()
    }
}

impl Share {
    /// Whether this client is to end.
    pub(crate) fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) fn answered(&self, identity: Identity) {
        self.seen.send_modify(|seen| {
            seen.answered += 1;
            seen.newest = seen.newest.max(Some(identity));
        });
    }

    pub(crate) fn unsent(&self) {
        self.seen.send_modify(|seen| seen.unsent += 1);
    }

    pub(crate) fn ended(&self) {
        self.seen.send_modify(|seen| seen.ended += 1);
    }

    pub(crate) fn failed(&self, what: impl Display) {
        self.seen
            .send_modify(|seen| seen.failures.push(what.to_string()));
    }
}

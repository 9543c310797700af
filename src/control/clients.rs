//! How many clients there may be, and who gives way to another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::lifecycle::token::Token;

/// The clients that are connected. Where there are too many, the one that has been quiet for the
/// longest time gives way, so that those who only hold a connection keep nobody out.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Table>);

/// The place of one client, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    number: u64,
    /// Reached when it has to give way.
    pub(super) leave: Token,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Since when it has asked for nothing.
    quiet: Option<Instant>,
    leave: Token,
}

impl Clients {
    /// Enters a client; `None` where every place is taken by one who waits for an answer.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut table = self.lock();
        if table.entries.len() >= MOST {
            let quiet = table.entries.iter();
            let quiet = quiet.filter_map(|(&number, entry)| Some((entry.quiet?, number)));
            let (_, number) = quiet.min()?;
            if let Some(entry) = table.entries.remove(&number) {
                entry.leave.cancel();
            }
        }
        let (number, leave) = (table.next, Token::new());
        table.next += 1;
        let entry = Entry {
            quiet: Some(Instant::now()),
            leave: leave.clone(),
        };
        table.entries.insert(number, entry);
        Some(Place {
            clients: Arc::clone(self),
            number,
            leave,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Says whether the client waits for an answer: then it does not give way.
    pub(super) fn set_busy(&self, busy: bool) {
        if let Some(entry) = self.clients.lock().entries.get_mut(&self.number) {
            entry.quiet = (!busy).then(Instant::now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.lock().entries.remove(&self.number);
    }
}

/// How many clients there may be.
pub(super) const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_quiet_for_the_longest_time_gives_way() {
        let clients = Arc::new(Clients::default());
        let places: Vec<_> = (0..MOST).map_while(|_| clients.enter()).collect();
        assert_eq!(places.len(), MOST);
        places[0].set_busy(true);
        for place in &places[2..] {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            place.set_busy(false);
        }
        let _another = clients.enter().expect("a place");
        assert!(!places[0].leave.is_cancelled());
        assert!(places[1].leave.is_cancelled());
        assert!(!places[2].leave.is_cancelled());
    }

    #[tokio::test]
    async fn nobody_gives_way_who_waits_for_an_answer() {
        let clients = Arc::new(Clients::default());
        let mut places: Vec<_> = (0..MOST).map_while(|_| clients.enter()).collect();
        for place in &places {
            place.set_busy(true);
        }
        assert!(clients.enter().is_none());
        places.pop();
        assert!(clients.enter().is_some());
    }
}

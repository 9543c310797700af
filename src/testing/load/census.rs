//! Which process has which connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::kind::Kind;
use crate::testing::target::Ends;

/// The connections that are open, of one load.
#[derive(Debug, Default)]
pub(super) struct Census(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    ends: Ends,
    holder: Option<u32>,
}

impl Census {
    /// Enters a connection, for as long as the value lives.
    pub(super) fn enter(self: &Arc<Self>, kind: Kind, ends: Ends) -> Entered {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.next += 1;
        let number = book.next;
        let entry = Entry {
            kind,
            ends,
            holder: None,
        };
        book.entries.insert(number, entry);
        Entered {
            census: Arc::clone(self),
            number,
        }
    }

    /// Looks at every connection; `holder` tells who has it now. Returns those that have moved, by kind.
    pub(super) fn take(&self, mut holder: impl FnMut(&Ends) -> Option<u32>) -> Vec<Kind> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved = Vec::new();
        for entry in book.entries.values_mut() {
            let Some(now) = holder(&entry.ends) else {
                continue;
            };
            if entry
                .holder
                .replace(now)
                .is_some_and(|before| before != now)
            {
                moved.push(entry.kind);
            }
        }
        moved
    }
}

/// A connection that is in the census.
#[derive(Debug)]
pub(super) struct Entered {
    census: Arc<Census>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut book = self.census.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.entries.remove(&self.number);
    }
}

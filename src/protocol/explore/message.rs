//! Messages as small numbers, so that a state is small.

use std::cell::RefCell;
use std::fmt::Debug;

use serde::Serialize;

use crate::protocol::codec::Message;
use crate::protocol::{ToIncumbent, ToSuccessor, decode, encode};

thread_local! {
    static TO_SUCCESSOR: RefCell<Vec<ToSuccessor>> = const { RefCell::new(Vec::new()) };
    static TO_INCUMBENT: RefCell<Vec<ToIncumbent>> = const { RefCell::new(Vec::new()) };
}

/// A record on its way to a successor; `None` is garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Down(Option<u8>);

/// A record on its way to an incumbent; `None` is garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Up(Option<u8>);

impl Down {
    pub(super) const GARBAGE: Self = Self(None);

    pub(super) fn new(message: &ToSuccessor) -> Self {
        Self(Some(
            TO_SUCCESSOR.with_borrow_mut(|known| number(known, message)),
        ))
    }

    pub(super) fn message(self) -> Option<ToSuccessor> {
        TO_SUCCESSOR.with_borrow(|known| self.0.map(|number| known[usize::from(number)].clone()))
    }
}

impl Up {
    pub(super) const GARBAGE: Self = Self(None);

    pub(super) fn new(message: &ToIncumbent) -> Self {
        Self(Some(
            TO_INCUMBENT.with_borrow_mut(|known| number(known, message)),
        ))
    }

    pub(super) fn message(self) -> Option<ToIncumbent> {
        TO_INCUMBENT.with_borrow(|known| self.0.map(|number| known[usize::from(number)].clone()))
    }
}

/// Every message passes the codec once.
fn number<M: Clone + Debug + PartialEq + Serialize + Message>(
    known: &mut Vec<M>,
    message: &M,
) -> u8 {
    let number = known
        .iter()
        .position(|other| other == message)
        .unwrap_or_else(|| {
            let record = encode(message).unwrap();
            let received: M = decode(&record).unwrap();
            assert_eq!(&received, message);
            known.push(received);
            known.len() - 1
        });
    u8::try_from(number).unwrap()
}

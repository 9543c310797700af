//! An endpoint in the store.

use std::sync::Arc;

use socket2::SockRef;

use super::description::{Description, key, split_key};
use super::kind::Kind;
use super::options::Options;
use super::socket::Socket;
use super::verify::Inherited;

/// The sockets of one endpoint, and whose they are.
#[derive(Debug)]
pub(super) struct Entry {
    name: Option<String>,
    /// The name, if there is one, and what was asked for.
    key: Arc<str>,
    pub(super) state: State,
    /// What the predecessor calls it where that is something else: more than one, if they were
    /// claimed as one.
    offered: Vec<Arc<str>>,
    /// How many sockets it should have.
    count: usize,
    /// By their index.
    sockets: Vec<(u32, Arc<Socket>)>,
}

/// Whose an endpoint is.
#[derive(Debug)]
pub(super) enum State {
    /// The predecessor's, until it has exited.
    Unclaimed,
    /// Adopted by this generation; the options are still to be set, if there are some.
    Adopted(Option<Box<Options>>),
    /// Bound by this generation.
    Bound,
    /// A descriptor that this generation keeps for the next.
    Lent,
}

impl Entry {
    /// Of a socket that came from outside.
    pub(super) fn inherited(inherited: Inherited) -> Self {
        let Inherited {
            description,
            socket,
        } = inherited;
        let offered = description.key();
        // Those that came by activation are grouped when they are claimed, by name or one by one.
        let (target, index, count) = if description.activated {
            let target = format!("{}{}", socket.kind().prefix(), socket.address());
            (target, 0, 1)
        } else {
            (description.endpoint, description.index, description.count)
        };
        let key = key(description.name.as_deref(), &target);
        Self {
            offered: match key == offered {
                true => Vec::new(),
                false => vec![offered.into()],
            },
            name: description.name,
            key: key.into(),
            state: State::Unclaimed,
            count: usize::try_from(count).unwrap_or(usize::MAX),
            sockets: vec![(index, Arc::new(socket))],
        }
    }

    /// Of sockets that this generation made, or was given by the service.
    pub(super) fn fresh(
        name: Option<String>,
        target: &str,
        state: State,
        sockets: Vec<Arc<Socket>>,
    ) -> Self {
        Self {
            key: key(name.as_deref(), target).into(),
            name,
            state,
            offered: Vec::new(),
            count: sockets.len(),
            sockets: (0..).zip(sockets).collect(),
        }
    }

    /// Takes in another socket of the same endpoint; it is closed if it is there already.
    pub(super) fn join(&mut self, other: Self) {
        for (index, socket) in other.sockets {
            if let Err(place) = self.sockets.binary_search_by_key(&index, |(i, _)| *i) {
                self.sockets.insert(place, (index, socket));
            }
        }
    }

    /// Puts the sockets of another endpoint behind its own.
    pub(super) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.remember_key();
        self.offered.extend_from_slice(other.predecessors_keys());
        let sockets = std::mem::take(&mut self.sockets);
        let all = sockets.into_iter().chain(other.sockets);
        self.sockets = (0..).zip(all.map(|(_, socket)| socket)).collect();
    }

    /// Calls it something else.
    pub(super) fn rename(&mut self, name: Option<&str>, target: &str) {
        self.remember_key();
        self.name = name.map(str::to_owned);
        self.key = key(name, target).into();
    }

    fn remember_key(&mut self) {
        if self.offered.is_empty() {
            self.offered.push(Arc::clone(&self.key));
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What was asked for, without the name.
    pub(super) fn target(&self) -> &str {
        split_key(&self.key).1
    }

    pub(super) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// What the predecessor calls it; what this generation calls it, if there is none who could.
    pub(super) fn predecessors_keys(&self) -> &[Arc<str>] {
        match self.offered.as_slice() {
            [] => std::slice::from_ref(&self.key),
            offered => offered,
        }
    }

    /// The options that are still to be set; they are to be set once.
    pub(super) fn take_options(&mut self) -> Option<Box<Options>> {
        match &mut self.state {
            State::Adopted(options) => options.take(),
            _ => None,
        }
    }

    pub(super) fn is_claimed(&self) -> bool {
        matches!(self.state, State::Adopted(_) | State::Bound)
    }

    pub(super) fn is_unclaimed(&self) -> bool {
        matches!(self.state, State::Unclaimed)
    }

    pub(super) fn is_activated(&self) -> bool {
        self.sockets().any(|socket| socket.is_activated())
    }

    /// Is it a connection that systemd has accepted?
    pub(super) fn is_connection(&self) -> bool {
        let connected = |socket: &Arc<Socket>| {
            socket.kind() == Kind::Descriptor && SockRef::from(socket.as_ref()).peer_addr().is_ok()
        };
        self.is_activated() && self.sockets().any(connected)
    }

    pub(super) fn has_kind(&self, kinds: &[Kind]) -> bool {
        self.sockets().any(|socket| kinds.contains(&socket.kind()))
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &Arc<Socket>> {
        self.sockets.iter().map(|(_, socket)| socket)
    }

    /// The socket, if there is no more than one.
    pub(super) fn only_socket(&self) -> Option<&Arc<Socket>> {
        match self.sockets.as_slice() {
            [(_, socket)] if self.count == 1 => Some(socket),
            _ => None,
        }
    }

    /// How many of its sockets did not come.
    pub(super) fn missing(&self) -> usize {
        self.count.saturating_sub(self.sockets.len())
    }

    /// What an Offer says of its sockets.
    pub(super) fn describe(&self) -> impl Iterator<Item = (Description, Arc<Socket>)> {
        let count = u32::try_from(self.sockets.len()).unwrap_or(u32::MAX);
        (0..).zip(self.sockets()).map(move |(index, socket)| {
            let inode = socket.path().map(|path| path.inode());
            let description = Description {
                name: self.name.clone(),
                endpoint: self.target().to_owned(),
                kind: socket.kind(),
                address: socket.address().clone(),
                index,
                count,
                lock: socket.path().is_some(),
                device: inode.map(|inode| inode.device),
                inode: inode.map(|inode| inode.inode),
                activated: socket.is_activated(),
            };
            (description, Arc::clone(socket))
        })
    }
}

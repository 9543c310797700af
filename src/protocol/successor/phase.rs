//! Where a successor is.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// No offer has come.
    Awaiting,
    /// The offer is not complete.
    Adopting { missing: usize },
    /// Main runs.
    Initialising,
    /// Ready is sent.
    AwaitingCommit,
    /// It serves, and the predecessor can still take over again.
    Probation,
    /// It serves and means to stay, but the predecessor's limit may have run out before it heard of
    /// that.
    Settling { trigger: bool },
    /// It serves for good, while the predecessor lets go of what is exclusive.
    Settled,
    /// It alone is responsible.
    Active,
    /// It will never serve.
    Ended,
    /// It has served, did not settle, and stops.
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Predecessor {
    None,
    Alive,
    Gone,
}

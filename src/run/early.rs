//! What is known before anybody collects events.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Events of the start, kept until main asks for something: by then whoever collects them has been
/// installed.
pub(crate) struct Early(Mutex<Option<Vec<Tell>>>);

/// Tells of something.
type Tell = Box<dyn FnOnce() + Send>;

impl Early {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Tells of it as soon as somebody may listen.
    pub(crate) fn tell(&self, tell: impl FnOnce() + Send + 'static) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *kept {
            Some(kept) => kept.push(Box::new(tell)),
            None => {
                drop(kept);
                tell();
            }
        }
    }

    /// Somebody may listen. The first time this tells of `first`, and of all that was kept.
    pub(crate) fn begin(&self, first: impl FnOnce()) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kept) = kept {
            first();
            kept.into_iter().for_each(|tell| tell());
        }
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").finish_non_exhaustive()
    }
}

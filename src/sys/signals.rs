//! Signals: the mask, what is ignored, and handlers that write to a socket.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

/// The signals that this process was started with ignoring, as under `nohup(1)`.
///
/// Read from `SigIgn` in `/proc/self/status` (`proc_pid_status(5)`); where there is no `/proc`,
/// none.
pub(crate) fn ignored() -> SigSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    Signal::iterator()
        .filter(|&signal| bits >> (signal as i32 - 1) & 1 == 1)
        .collect()
}

/// The signals that the calling thread blocks.
pub(crate) fn blocked() -> io::Result<SigSet> {
    Ok(SigSet::thread_get_mask()?)
}

/// Sets the mask of the calling thread and returns the one before.
pub(crate) fn set_blocked(mask: &SigSet) -> io::Result<SigSet> {
    Ok(mask.thread_swap_mask(SigmaskHow::SIG_SETMASK)?)
}

/// Runs `work` with some more signals blocked in the calling thread.
pub(crate) fn with_blocked<T>(signals: &SigSet, work: impl FnOnce() -> T) -> io::Result<T> {
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let result = work();
    before.thread_set_mask()?;
    Ok(result)
}

/// Handlers that stand before any thread exists, and need none.
///
/// Each signal is counted where its handler runs, and one byte wakes the reader. Handlers that
/// the program installs through `tokio::signal` or `signal-hook` go on working beside these.
#[derive(Debug)]
pub(crate) struct Handlers {
    counts: Vec<(Signal, Arc<AtomicUsize>)>,
    wake: UnixStream,
    ids: Vec<SigId>,
}

impl Handlers {
    /// Installs a handler for each of the signals.
    pub(crate) fn install(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let mut handlers = Self {
            counts: Vec::new(),
            wake,
            ids: Vec::new(),
        };
        for signal in signals {
            let count = Arc::new(AtomicUsize::new(0));
            // In this order: whoever reads the byte finds the signal counted.
            let value = Arc::clone(&count);
            handlers
                .ids
                .push(signal_hook::flag::register_usize(signal as i32, value, 1)?);
            handlers
                .ids
                .push(pipe::register(signal as i32, write.try_clone()?)?);
            handlers.counts.push((signal, count));
        }
        Ok(handlers)
    }

    /// The stream that becomes readable when a signal has come.
    pub(crate) fn wake(&self) -> io::Result<UnixStream> {
        self.wake.try_clone()
    }

    /// The signals that have come since the last call, each once.
    pub(crate) fn take(&self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(1..)) {}
        self.counts
            .iter()
            .filter(|(_, count)| count.swap(0, Ordering::AcqRel) != 0)
            .map(|&(signal, _)| signal)
            .collect()
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            unregister(id);
        }
    }
}

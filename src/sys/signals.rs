//! Signals: the mask, what is ignored, and handlers that write to a socket.

use std::io::{self, Read, stderr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::write;
use signal_hook::{SigId, low_level};

use super::alarm::Alarm;
use super::{log, process};

/// Whether this process ignores a signal, which it was started with doing, as under `nohup(1)`.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing, and writes the present one into memory
    // that has room for it and outlives the call (`sigaction(2)`).
    let asked = unsafe { libc::sigaction(signal as i32, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeros are a valid action, and so is what the kernel has written over them.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
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
    signals: Vec<(Signal, Arc<Seen>)>,
    wake: UnixStream,
    ids: Vec<SigId>,
}

/// What the handler of a signal has seen.
#[derive(Debug)]
struct Seen {
    signal: Signal,
    /// How many have come since somebody looked.
    count: AtomicUsize,
    /// When the first of them came, in milliseconds since boot.
    since: AtomicU64,
    end: Option<End>,
}

/// How a signal ends the program where nobody else does.
#[derive(Debug)]
struct End {
    /// How long this process may take to end once it was told to.
    limit: Duration,
    /// Sends the signal once more when that time is up.
    alarm: Option<Alarm>,
    /// When that is, in milliseconds since boot; [`NOT_YET`] before the first of them.
    at: AtomicU64,
}

impl Handlers {
    /// Installs a handler for each of the signals.
    ///
    /// One that `ends` the program within a time does so by itself, in the way of a program without
    /// handlers, where all threads that could look at it are taken: when it comes for the third time
    /// or more and nobody has looked at the first one for a second, because whoever asks again and
    /// again means it; and when that time has passed since the first one, as nobody else ends it.
    pub(crate) fn install(
        signals: impl IntoIterator<Item = Signal>,
        ends: impl Fn(Signal) -> Option<Duration>,
    ) -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let write = Arc::new(write);
        let mut handlers = Self {
            signals: Vec::new(),
            wake,
            ids: Vec::new(),
        };
        for signal in signals {
            let seen = Arc::new(Seen {
                signal,
                count: AtomicUsize::new(0),
                since: AtomicU64::new(0),
                end: ends(signal).map(|limit| End::within(limit, signal)),
            });
            let (here, write) = (Arc::clone(&seen), Arc::clone(&write));
            let action = move || here.add(&write);
            // SAFETY: the action does nothing that a handler must not do (`signal-safety(7)`): it
            // uses atomics, reads the clock, sets a timer, writes to a socket, keeps `errno`, and at
            // most writes a line, resets and raises the signal. It neither allocates nor locks; if it
            // did, a thread that was interrupted in the allocator would wait for itself.
            let id = unsafe { low_level::register(signal as i32, action) }?;
            handlers.ids.push(id);
            handlers.signals.push((signal, seen));
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
        while matches!((&self.wake).read(&mut bytes), Ok(length) if length == bytes.len()) {}
        self.signals
            .iter()
            .filter(|(_, seen)| seen.count.swap(0, Ordering::AcqRel) != 0)
            .map(|&(signal, _)| signal)
            .collect()
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

impl Seen {
    /// What the handler does.
    fn add(&self, wake: &UnixStream) {
        let errno = Errno::last_raw();
        let now = millis(process::uptime());
        let insisted = match self.count.fetch_add(1, Ordering::AcqRel) {
            0 => {
                self.since.store(now, Ordering::Release);
                false
            }
            1 => false,
            _ => now.saturating_sub(self.since.load(Ordering::Acquire)) >= PATIENCE,
        };
        if let Some(end) = &self.end {
            let overdue = end.is_overdue(now);
            if overdue {
                say(OVERDUE);
            }
            if overdue || insisted {
                low_level::emulate_default_handler(self.signal as i32).ok();
            }
        }
        // After the count: whoever reads the byte finds the signal counted. Where there is no room,
        // bytes are waiting to be read.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(wake.as_raw_fd(), b"!", flags).ok();
        Errno::set_raw(errno);
    }
}

impl End {
    fn within(limit: Duration, signal: Signal) -> Self {
        let alarm = Alarm::new(signal).inspect_err(
            |error| log::debug!(%signal, %error, "nobody ends what blocks all threads"),
        );
        Self {
            limit,
            alarm: alarm.ok(),
            at: AtomicU64::new(NOT_YET),
        }
    }

    /// Whether the time is up; the first question begins it.
    fn is_overdue(&self, now: u64) -> bool {
        let at = now.saturating_add(millis(self.limit)).min(NOT_YET - 1);
        match self
            .at
            .compare_exchange(NOT_YET, at, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                if let Some(alarm) = &self.alarm {
                    // A millisecond later, because the clock is read in whole ones. One that cannot be
                    // set leaves the third signal.
                    alarm
                        .set(self.limit.saturating_add(Duration::from_millis(1)))
                        .ok();
                }
                false
            }
            Err(at) => now >= at,
        }
    }
}

/// Writes to standard error, unless that would wait for somebody to read.
fn say(line: &str) {
    let stderr = stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if matches!(poll(&mut room, PollTimeout::ZERO), Ok(1)) {
        // Nobody is left to be told of a failure.
        write(&stderr, line.as_bytes()).ok();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long the first of several signals has to have waited, in milliseconds.
const PATIENCE: u64 = 1000;
/// A time that never comes.
const NOT_YET: u64 = u64::MAX;
const OVERDUE: &str = "handover: this process was told to stop and has not ended in time: it is ended now. Does its code \
                       block its threads?\n";

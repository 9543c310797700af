//! A timer of the kernel, which needs no thread of this process to run out.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

/// Sends this process a signal when its time is up (`timer_create(2)`).
///
/// The timer is this process's alone: no child has it, and no program that is executed in its place.
#[derive(Debug)]
pub(crate) struct Alarm(libc::timer_t);

// SAFETY: the number of a timer, which glibc keeps in a pointer that it never follows here; the kernel
// takes it from every thread of the process. Were it a pointer to memory of one thread, another one
// would read what that one has freed.
unsafe impl Send for Alarm {}
// SAFETY: as above; `set` changes nothing here, and the kernel puts two calls in an order.
unsafe impl Sync for Alarm {}

impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where the user has too many signals and timers (`RLIMIT_SIGPENDING`).
    pub(crate) fn new(signal: Signal) -> io::Result<Self> {
        let event = MaybeUninit::<libc::sigevent>::zeroed();
        // SAFETY: all zeros are a valid `sigevent`: numbers, and a union of numbers and pointers.
        let mut event = unsafe { event.assume_init() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal as i32;
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are to values that outlive the call; of the second, the kernel's number
        // of the timer is written.
        let made =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        Errno::result(made)?;
        Ok(Self(timer))
    }

    /// Sets it, or sets it anew. A signal handler may do so (`signal-safety(7)`).
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let time = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: after.subsec_nanos().into(),
            },
        };
        // SAFETY: the timer is deleted when this is dropped and not before, and the pointer is to a
        // value that outlives the call. What was set before is not asked for.
        let set = unsafe { libc::timer_settime(self.0, 0, &raw const time, ptr::null_mut()) };
        Ok(Errno::result(set).map(drop)?)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's alone, and nobody can set it any more.
        let deleted = unsafe { libc::timer_delete(self.0) };
        debug_assert_eq!(deleted, 0, "it exists");
    }
}

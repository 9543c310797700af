//! Receiving into memory that was never written to.

use std::io;
use std::os::fd::AsFd;

use socket2::SockRef;
use tokio::io::ReadBuf;

/// `recv(2)`: adds what has arrived to `buf`, and tells how much that was.
pub(crate) fn receive(socket: &impl AsFd, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing but the kernel writes to it, so that what was initialised stays so.
    let space = unsafe { buf.unfilled_mut() };
    let length = SockRef::from(socket).recv(space)?;
    // SAFETY: the kernel has written so many bytes to the beginning (`recv(2)`).
    unsafe { buf.assume_init(length) };
    buf.advance(length);
    Ok(length)
}

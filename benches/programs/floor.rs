//! The floor under every handover: a Tokio program that takes its sockets, is up, and says so.
//!
//! With no argument it takes no sockets. With `N` it receives N listening sockets over its standard input, a Unix
//! socket, makes sure that each is a TCP socket that listens and does not block, looks where it is bound, and registers
//! it with its runtime. Nothing that has to do this can be faster.

use std::{
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    net::TcpListener,
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ipproto, recvmsg, sockopt},
};

#[tokio::main]
async fn main() -> io::Result<()> {
    let count = std::env::args()
        .nth(1)
        .map_or(Ok(0), |count| count.parse())
        .map_err(io::Error::other)?;
    let mut listeners = Vec::with_capacity(count);
    while listeners.len() < count {
        let received = receive()?;
        if received.is_empty() {
            return Err(io::Error::other("the parent has sent too few sockets"));
        }
        for listener in received {
            check(&listener)?;
            listeners.push(tokio::net::TcpListener::from_std(listener)?);
        }
    }
    io::stdout().write_all(b"up\n")?;
    // Up until the parent lets go.
    tokio::task::spawn_blocking(|| io::stdin().lines().for_each(drop)).await?;
    Ok(())
}

/// Without these, a socket that is another would be noticed when it is too late.
fn check(listener: &TcpListener) -> io::Result<()> {
    listener.local_addr()?;
    let tcp = sockopt::socket_protocol(listener)? == Some(ipproto::TCP);
    if tcp
        && sockopt::socket_acceptconn(listener)?
        && fcntl_getfl(listener)?.contains(OFlags::NONBLOCK)
    {
        return Ok(());
    }
    Err(io::Error::other("the parent has sent another socket"))
}

fn receive() -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        io::stdin(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut listeners = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            listeners.extend(descriptors.map(TcpListener::from));
        }
    }
    Ok(listeners)
}

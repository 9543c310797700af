//! The floor under the migration: established connections, registered with Tokio, are passed to a successor and closed.
//!
//! Says the same as `mover`. No task runs for a connection, nothing is said of it, and nobody answers for it: a
//! connection whose receiver dies is lost. Nothing that has to pass descriptors can be faster.

use std::{
    env,
    error::Error,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{self, Command},
};

use handover_benches::now;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let count = arguments.get(1).ok_or("usage: passing COUNT")?.parse()?;
    let mut handover = signal(SignalKind::hangup())?;
    let connections = match arguments.get(2) {
        None => accept(count).await?,
        Some(_) => receive(count)?,
    };
    say(&format!("complete {}", process::id()))?;

    handover.recv().await;
    let successor = start_successor(count)?;
    say("draining")?;
    pass(connections, &successor)?;
    Ok(())
}

fn say(word: &str) -> io::Result<()> {
    let now = now()?.as_micros();
    writeln!(io::stdout(), "{word} {now}")
}

async fn accept(count: usize) -> io::Result<Vec<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "serving {}", listener.local_addr()?)?;
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        connections.push(listener.accept().await?.0);
    }
    Ok(connections)
}

/// Returns when it is about to receive.
fn start_successor(count: usize) -> io::Result<UnixStream> {
    let (mut ours, theirs) = UnixStream::pair()?;
    Command::new(env::current_exe()?)
        .args([&count.to_string(), "successor"])
        .stdin(OwnedFd::from(theirs))
        .spawn()?;
    ours.read_exact(&mut [0])?;
    Ok(ours)
}

/// As many at a time as the kernel takes.
fn pass(mut connections: Vec<TcpStream>, successor: &UnixStream) -> Result<(), Box<dyn Error>> {
    while !connections.is_empty() {
        let batch = connections.split_off(connections.len().saturating_sub(253));
        let descriptors: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err("253 descriptors do not fit a message".into());
        }
        let byte = [IoSlice::new(&[0])];
        sendmsg(successor, &byte, &mut ancillary, SendFlags::empty())?;
    }
    Ok(())
}

fn receive(count: usize) -> Result<Vec<TcpStream>, Box<dyn Error>> {
    let predecessor = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    (&predecessor).write_all(&[0])?;
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let received = recvmsg(
            &predecessor,
            &mut bytes,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err("the predecessor has sent too few connections".into());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    connections.push(TcpStream::from_std(descriptor.into())?);
                }
            }
        }
    }
    Ok(connections)
}

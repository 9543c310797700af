//! A TCP connection that is watched for what it needs.

use std::io::{self, IoSlice, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::sys::receive::receive;
use crate::sys::watch::{try_watch, watch};

/// A TCP connection on the runtime, watched for what can be read only, until a write finds no room.
///
/// A new connection can be written to, and whoever is watched for that is announced at once
/// (`epoll(7)`): a thread that waits for events is woken for nothing, once for each connection that is
/// accepted, or comes from the predecessor with thousands of others. Most never lack room.
#[derive(Debug)]
pub(crate) struct Tcp {
    socket: Socket,
    /// Whether it is watched for room as well.
    wide: bool,
    /// Who waits to read, as long as that may have to be told of another watch.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Socket {
    Watched(AsyncFd<TcpStream>),
    /// The kernel would not watch it again.
    Unwatched(TcpStream),
    /// Is about to be watched anew.
    Between,
}

impl Tcp {
    /// Has to be called on a runtime, with a socket that does not block.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::Watched(watch(stream, Interest::READABLE)?),
            wide: false,
            reader: None,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream().local_addr()
    }

    fn stream(&self) -> &TcpStream {
        match &self.socket {
            Socket::Watched(socket) => socket.get_ref(),
            Socket::Unwatched(stream) => stream,
            Socket::Between => unreachable!("`widen` leaves it watched or unwatched"),
        }
    }

    /// The socket, watched; once more if the kernel would not the last time.
    fn watched(&mut self) -> io::Result<&AsyncFd<TcpStream>> {
        if !matches!(self.socket, Socket::Watched(_)) {
            self.widen()?;
        }
        match &self.socket {
            Socket::Watched(socket) => Ok(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Watches for room as well.
    fn widen(&mut self) -> io::Result<()> {
        let stream = match mem::replace(&mut self.socket, Socket::Between) {
            Socket::Watched(socket) => socket.into_inner(),
            Socket::Unwatched(stream) => stream,
            Socket::Between => unreachable!("`widen` leaves it watched or unwatched"),
        };
        let watched = try_watch(stream, Interest::READABLE | Interest::WRITABLE);
        // What the reader waits for comes by the new watch.
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        self.wide = true;
        match watched {
            Ok(socket) => {
                self.socket = Socket::Watched(socket);
                Ok(())
            }
            Err((stream, error)) => {
                self.socket = Socket::Unwatched(stream);
                Err(error)
            }
        }
    }

    /// Writes some of `length` bytes as soon as there is room.
    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if !self.wide {
            let budget = ready!(poll_proceed(cx));
            match write(self.stream()) {
                Err(error) if would_block(&error) => self.widen()?,
                done => {
                    budget.made_progress();
                    return Poll::Ready(done);
                }
            }
        }
        let socket = self.watched()?;
        loop {
            let mut room = ready!(socket.poll_write_ready(cx))?;
            match write(socket.get_ref()) {
                Err(error) if would_block(&error) => room.clear_ready(),
                done => {
                    // What did not fit waits for room: the kernel need not say so once more.
                    if matches!(done, Ok(written) if 0 < written && written < length) {
                        room.clear_ready();
                    }
                    return Poll::Ready(done);
                }
            }
        }
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wide = self.wide;
        loop {
            let Poll::Ready(arrived) = self.watched()?.poll_read_ready(cx) else {
                let known = self.reader.as_ref();
                if !wide && !known.is_some_and(|known| known.will_wake(cx.waker())) {
                    self.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            let mut arrived = arrived?;
            let room = buf.remaining();
            match receive(arrived.get_inner(), buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => arrived.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(length) => {
                    // That was all: the kernel need not say so once more. Its end is announced anew.
                    if 0 < length && length < room {
                        arrived.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), |mut stream| stream.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_with(cx, length, |mut stream| stream.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered on this side of the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

    use super::*;

    fn pair() -> (Tcp, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        let (stream, _) = listener.accept().expect("a client");
        stream.set_nonblocking(true).expect("a socket");
        (Tcp::new(stream).expect("a runtime"), client.expect("room"))
    }

    async fn must<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), future)
            .await
            .expect("it happens within a minute")
    }

    #[tokio::test]
    async fn a_reader_is_woken_though_a_writer_has_found_no_room_meanwhile() {
        let (tcp, mut client) = pair();
        let (mut reader, mut writer) = split(tcp);
        let reading = tokio::spawn(async move { reader.read_u8().await });
        tokio::task::yield_now().await;

        let (mut written, chunk) = (0, [7; 64 * 1024]);
        while let Some(length) = writer.write(&chunk).now_or_never() {
            written += length.expect("it is open");
        }
        client.write_all(&[1]).expect("room");
        let read = must(reading).await.expect("no panic");
        assert_eq!(read.expect("a byte"), 1);

        let all = tokio::task::spawn_blocking(move || {
            let mut all = vec![0; written + chunk.len()];
            client.read_exact(&mut all).map(|()| all)
        });
        must(writer.write_all(&chunk)).await.expect("room again");
        let all = must(all).await.expect("no panic").expect("all of it");
        assert!(all.iter().all(|&byte| byte == 7));
    }

    #[tokio::test]
    async fn what_comes_and_the_end_are_read_one_after_the_other() {
        let (mut tcp, mut client) = pair();
        for _ in 0..3 {
            client.write_all(b"abc").expect("room");
            let mut space = [0; 2];
            assert_eq!(must(tcp.read(&mut space)).await.expect("bytes"), 2);
            assert_eq!(must(tcp.read(&mut space)).await.expect("a byte"), 1);
            assert!(tcp.read(&mut space).now_or_never().is_none());
        }
        drop(client);
        assert_eq!(must(tcp.read(&mut [0])).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn a_half_closed_connection_can_still_be_read() {
        let (mut tcp, mut client) = pair();
        must(tcp.write_all(b"bye")).await.expect("room");
        must(tcp.shutdown()).await.expect("it is open");
        let mut text = String::new();
        client.read_to_string(&mut text).expect("an end");
        client.write_all(b"x").expect("room");
        assert_eq!(text, "bye");
        assert_eq!(must(tcp.read_u8()).await.expect("a byte"), b'x');
    }
}

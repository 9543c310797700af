//! Where a service listens.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::fstat;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
#[cfg(feature = "rustls")]
use tokio_rustls::client::TlsStream;

#[cfg(feature = "rustls")]
use crate::testing::tls;

/// An address of a service to which a connection can be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket: a path, or an abstract name after `@`.
    Unix(PathBuf),
    /// TLS over TCP. Whoever answers is believed: that is not what is tested. The process has to
    /// have a default provider of cryptography.
    #[cfg(feature = "rustls")]
    Tls(SocketAddr),
}

impl Target {
    pub(super) async fn connect(&self) -> io::Result<Socket> {
        self.connect_speaking(b"http/1.1").await
    }

    /// Connects; where a handshake has to name the protocol, this is its name.
    #[cfg_attr(
        not(feature = "rustls"),
        expect(unused_variables, reason = "only TLS names the protocol")
    )]
    pub(super) async fn connect_speaking(&self, alpn: &'static [u8]) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(path) => {
                let stream = match path.to_str().and_then(|text| text.strip_prefix('@')) {
                    Some(name) => UnixStream::connect(format!("\0{name}")).await?,
                    None => UnixStream::connect(path).await?,
                };
                Ok(Socket::Unix(stream))
            }
            #[cfg(feature = "rustls")]
            Self::Tls(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tls(Box::new(tls::connect(stream, alpn).await?)))
            }
        }
    }
}

impl Target {
    /// Whether it is the control socket of a service of this library, as the lock beside its path says. One that is
    /// abstract, or was made by systemd, has no lock.
    pub fn is_control(&self) -> bool {
        let Self::Unix(path) = self else {
            return false;
        };
        let mut lock = path.clone().into_os_string();
        lock.push(".lock");
        let mut text = [0; CONTROL.len()];
        File::open(lock)
            .and_then(|mut lock| lock.read_exact(&mut text))
            .is_ok_and(|()| text == *CONTROL)
    }

    /// Its port, where it has one.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            #[cfg(feature = "rustls")]
            Self::Tls(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "rustls")]
            Self::Tls(address) => write!(f, "tls:{address}"),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// By what the kernel knows a connection.
#[derive(Clone, Debug)]
pub(super) enum Ends {
    /// Our address, and that of the service.
    Tcp(SocketAddr, SocketAddr),
    /// The inode of our end.
    Unix(u64),
}

/// A connection to a [`Target`].
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "rustls")]
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// By what the kernel knows it, while both ends are open.
    pub(super) fn ends(&self) -> Option<Ends> {
        let tcp = |stream: &TcpStream| {
            Some(Ends::Tcp(
                stream.local_addr().ok()?,
                stream.peer_addr().ok()?,
            ))
        };
        match self {
            Self::Tcp(stream) => tcp(stream),
            Self::Unix(stream) => Some(Ends::Unix(fstat(stream).ok()?.st_ino)),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => tcp(stream.get_ref().0),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// How the lock beside a control socket begins.
const CONTROL: &[u8; 16] = b"handover control";

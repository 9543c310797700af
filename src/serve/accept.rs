//! What a server accepts from.

use self::sealed::Source;
#[cfg(feature = "rustls")]
use super::rustls::TlsListener;
use crate::net::listener::Listener;

/// What a server of this crate accepts connections from: a [`Listener`], or one that is wrapped in TLS.
///
/// It is sealed: a server has to look into its connections to drain them without loss.
pub trait Accept: Source {}

impl Accept for Listener {}

#[cfg(feature = "rustls")]
impl Accept for TlsListener {}

pub(crate) mod sealed {
    use std::{fmt::Debug, future::Future, io};

    use crate::{
        net::{conn::Conn, listener::Listener},
        serve::{connect::Accepted, transport::Transport},
    };

    #[expect(unnameable_types, reason = "this seals `Accept`")]
    pub trait Source: Debug + Send + 'static {
        #[expect(private_bounds, reason = "this seals `Accept`")]
        type Io: Transport;

        /// Whether its connections move between two requests of HTTP/1.1.
        const MOVES: bool;

        fn accept(&mut self) -> impl Future<Output = io::Result<Option<Self::Io>>> + Send;

        fn listener(&self) -> &Listener;

        #[expect(private_interfaces, reason = "this seals `Accept`")]
        fn accepted(io: &Self::Io) -> Accepted<'_>;
    }

    impl Source for Listener {
        type Io = Conn;

        const MOVES: bool = true;

        async fn accept(&mut self) -> io::Result<Option<Conn>> {
            self.accept().await
        }

        fn listener(&self) -> &Listener {
            self
        }

        #[expect(private_interfaces, reason = "this seals `Accept`")]
        fn accepted(io: &Conn) -> Accepted<'_> {
            Accepted {
                conn: io,
                #[cfg(feature = "rustls")]
                tls: None,
            }
        }
    }

    #[cfg(feature = "rustls")]
    impl Source for crate::serve::rustls::TlsListener {
        type Io = crate::serve::rustls::TlsConn;

        // What the session knows stays in this process.
        const MOVES: bool = false;

        async fn accept(&mut self) -> io::Result<Option<Self::Io>> {
            self.accept().await
        }

        fn listener(&self) -> &Listener {
            self.get_ref()
        }

        #[expect(private_interfaces, reason = "this seals `Accept`")]
        fn accepted(io: &Self::Io) -> Accepted<'_> {
            Accepted {
                conn: io.get_ref(),
                tls: Some(io.session()),
            }
        }
    }
}

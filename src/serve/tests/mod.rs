//! The driver, tested with real sockets and clients that write raw bytes.

mod app;
mod axum;
mod client;
mod deadline;
mod drain;
mod generation;
mod http2;
mod hyper;
mod last_look;
mod leaving;
mod lingering;
mod serving;
#[cfg(feature = "tonic-health")]
mod tonic;
mod upgrade;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    io::{DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use self::{app::App, client::Client};
use super::{
    connection::{ConnectionError, serve_connection},
    options::Options,
    phase::Phase,
    server::Server,
    transport::Transport,
};

const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A server without an accept loop: the test makes the connections, and moves the drain on.
struct Bench {
    server: Arc<Server>,
    app: App,
}

type Outcome = JoinHandle<Result<(), ConnectionError>>;

impl Bench {
    fn new() -> Self {
        let options = Options {
            header_timeout: HEAD_TIMEOUT,
            ..Options::default()
        };
        Self {
            server: Arc::new(Server::new(options)),
            app: App::default(),
        }
    }

    fn enter(&self, phase: Phase) {
        self.server.advance(phase);
    }

    fn serve(&self, transport: impl Transport) -> Outcome {
        let connection = serve_connection(transport, self.app.clone(), Arc::clone(&self.server));
        tokio::spawn(async move {
            let given_back = connection.await?;
            assert!(given_back.is_none(), "there is no successor");
            Ok(())
        })
    }

    /// A connection over TCP.
    async fn connect(&self) -> (Client<TcpStream>, Outcome) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (transport, _) = listener.accept().await.unwrap();
        transport.set_nodelay(true).unwrap();
        (Client::new(client), self.serve(transport))
    }

    /// A connection within the process, for tests that stop the clock.
    fn connect_within(&self) -> (Client<DuplexStream>, Outcome) {
        let (client, transport) = duplex(64 * 1024);
        (Client::new(client), self.serve(transport))
    }
}

/// Waits for what must happen, so that a failure is one and not a test that hangs.
async fn must<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(40), future)
        .await
        .expect("it happens")
}

/// Lets every other task of this (single-threaded) runtime run until it waits, sockets included.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

//! A line protocol over TCP and a Unix socket at once.
//!
//! A connection is greeted with `pid=<pid> generation=<n>`; every line that it sends comes back.
//! A handover does not end it: it goes on in the next generation, without a second greeting.
//! A component, [`Visits`], counts the lines: it reads the count in `on_init`, writes it down in
//! `on_drain`, and the next generation reads that in its `on_active`.
//!
//! ```text
//! cargo run --example echo -- 127.0.0.1:7000 /tmp/echo.sock
//! nc 127.0.0.1 7000
//! kill -HUP <pid>
//! ```
//!
//! The first argument is the TCP address (`127.0.0.1:7000` if there is none), the second the path
//! of the Unix socket (none: no Unix socket).

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use handover::{BoxError, Conn, Context, Endpoint, Lifecycle, Listener, Token};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

/// How many lines have come back, over all generations.
struct Visits {
    file: Option<PathBuf>,
    count: AtomicU64,
}

impl Visits {
    fn read(&self) -> Result<(), BoxError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        match std::fs::read_to_string(file) {
            Ok(text) => self.count.store(text.trim().parse()?, Ordering::Relaxed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Lifecycle for Visits {
    // Shows early whether the file can be read at all.
    async fn on_init(&mut self) -> Result<(), BoxError> {
        self.read()
    }

    // The predecessor has written its last count.
    async fn on_active(&self) -> Result<(), BoxError> {
        self.read()
    }

    async fn on_drain(&self, _deadline: Instant) -> Result<(), BoxError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        // Renamed, so that nobody ever reads half of it.
        let new = file.with_extension("new");
        std::fs::write(&new, self.count.load(Ordering::Relaxed).to_string())?;
        Ok(std::fs::rename(new, file)?)
    }
}

#[handover::main]
async fn main(cx: Context) -> Result<(), BoxError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let path = arguments.next().map(PathBuf::from);

    let file = path.as_ref().map(|path| path.with_extension("visits"));
    let visits = cx
        .attach(Visits {
            file,
            count: AtomicU64::new(0),
        })
        .await?;
    let tcp = cx.bind(address.as_str()).await?;
    println!("listening on {}", tcp.local_addr()?);
    let unix = match &path {
        Some(path) => Some(cx.bind(Endpoint::unix(path)).await?),
        None => None,
    };
    cx.ready().await?;

    let unix = async {
        match unix {
            Some(listener) => serve(&cx, listener.resuming(), &visits).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(serve(&cx, tcp.resuming(), &visits), unix)?;
    Ok(())
}

async fn serve(cx: &Context, mut listener: Listener, visits: &Arc<Visits>) -> std::io::Result<()> {
    while let Some(conn) = listener.accept().await? {
        let (cx, visits) = (cx.clone(), Arc::clone(visits));
        tokio::spawn(async move {
            // A client that goes away in the middle concerns nobody else.
            if let Err(error) = session(&cx, conn, &visits).await {
                tracing::debug!(%error, "a session ended");
            }
        });
    }
    Ok(())
}

async fn session(cx: &Context, conn: Conn, visits: &Visits) -> std::io::Result<()> {
    let mut migrating = Some(conn.migrating());
    let mut conn = BufReader::new(conn);
    if conn.get_ref().resumed().is_none() {
        let greeting = format!(
            "pid={} generation={}\n",
            std::process::id(),
            cx.generation()
        );
        conn.write_all(greeting.as_bytes()).await?;
    }
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = conn.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                visits.count.fetch_add(1, Ordering::Relaxed);
                conn.write_all(&line).await?;
                line.clear();
            }
            () = reached(migrating.as_ref()) => {
                // The beginning of a line, and what the buffer has behind it.
                line.extend_from_slice(conn.buffer());
                let unread = std::mem::take(&mut line);
                match conn.into_inner().hand_over(unread, []).await {
                    Ok(()) => return Ok(()),
                    // The successor does not take it: it goes on here until the deadline.
                    Err(kept) => conn = BufReader::new(kept),
                }
                migrating = None;
            }
        }
    }
}

/// Waits for a moment that may never come.
async fn reached(moment: Option<&Token>) {
    match moment {
        Some(moment) => moment.cancelled().await,
        None => std::future::pending().await,
    }
}

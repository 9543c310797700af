//! The service of the bench `handover` on ecdysis: some listeners and nothing to do.
//!
//! Says `serving PID` when its `ready` has returned, and `released PID` when it has been replaced and has stopped
//! accepting.

use std::{
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process,
};

use ecdysis::tokio_ecdysis::{SignalKind, StopOnShutdown, TokioEcdysisBuilder};
use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u16> = env::args()
        .skip(1)
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    let [count, port] = numbers[..] else {
        return Err("usage: ecdysis COUNT PORT".into());
    };
    let ecdysis = TokioEcdysisBuilder::new(SignalKind::hangup())?;
    let mut accepting = Vec::new();
    for at in 0..count {
        let [high, low] = at.to_be_bytes();
        let address = SocketAddr::from(([127, 2, high, low], port));
        let mut connections = ecdysis.listen_tcp(StopOnShutdown::Yes, address)?;
        accepting.push(tokio::spawn(async move {
            while connections.next().await.is_some() {}
        }));
    }
    let (_ecdysis, replaced) = ecdysis.ready()?;
    say("serving")?;

    replaced
        .await
        .map_err(|error| format!("not replaced: {error:?}"))?;
    for listener in accepting {
        listener.await?;
    }
    say("released")?;
    Ok(())
}

fn say(word: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{word} {}", process::id())
}

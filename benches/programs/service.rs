//! The service of the bench `handover`: some listeners and nothing to do.
//!
//! It has a control socket where the variable `CONTROL` says. Says `serving PID` when its `ready` has returned, and `alone PID` when the process that it replaces has gone.

use std::{
    env,
    error::Error,
    io::{self, Write},
    process::{self, ExitCode},
};

use handover::{Builder, Context};
use handover_benches::address;

fn main() -> ExitCode {
    let mut builder = Builder::new();
    if let Ok(control) = env::var("CONTROL") {
        builder = builder.control(control);
    }
    builder.run(serve)
}

async fn serve(cx: Context) -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u16> = env::args()
        .skip(1)
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    let [count, port] = numbers[..] else {
        return Err("usage: service COUNT PORT".into());
    };
    let mut listeners = Vec::with_capacity(count.into());
    for at in 0..count {
        listeners.push(cx.bind(address(at, port)).await?);
    }
    cx.ready().await?;
    say("serving")?;

    if let Some(predecessor) = cx.predecessor() {
        predecessor.exited().await;
    }
    say("alone")?;
    cx.draining().cancelled().await;
    Ok(())
}

fn say(word: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{word} {}", process::id())
}

//! A process with a given number of MiB resident, which starts others when it is told to and says what that cost.
//!
//! For each line on its standard input it starts `true` once, in the way that the line names, and answers with a
//! number of nanoseconds: with `spawn` and `fork` for how long the call took, with `spawn watched` and
//! `fork watched` the longest time for which another thread stood still meanwhile. With `handover` it tries to hand
//! over to that program, and answers how long it took until it knew that it could not.

use std::{
    error::Error,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use handover::{Builder, Context, Flavor};

fn main() -> ExitCode {
    Builder::new()
        .flavor(Flavor::CurrentThread)
        .program("/bin/true")
        .run(answer)
}

async fn answer(cx: Context) -> Result<(), Box<dyn Error>> {
    let mebibytes: usize = std::env::args().nth(1).unwrap_or_default().parse()?;
    // Not zero, or the kernel would share one page for all of it.
    let ballast = vec![1_u8; mebibytes << 20];
    cx.ready().await?;
    println!("ready");

    for line in io::stdin().lines() {
        let line = line?;
        let took = match line.as_str() {
            "handover" => {
                let start = Instant::now();
                if cx.handover().await.is_ok() {
                    return Err("`true` cannot have become the successor".into());
                }
                start.elapsed()
            }
            "spawn" => call(spawn(&mut program()))?,
            "spawn watched" => stall(spawn(&mut program()))?,
            "fork" => call(fork(&mut program()))?,
            "fork watched" => stall(fork(&mut program()))?,
            _ => return Err(format!("no way to start a process: {line}").into()),
        };
        println!("took {}", took.as_nanos());
    }
    drop(std::hint::black_box(ballast));
    Ok(())
}

fn program() -> Command {
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null());
    command
}

/// Nothing that keeps the standard library from `posix_spawn`, so `CLONE_VM` and
/// `CLONE_VFORK`, as in the library.
fn spawn(command: &mut Command) -> &mut Command {
    command
}

/// As everything does it that sets `pre_exec`: a fork, then exec. To ask for the user id that the process has already
/// takes the same path in the standard library, and needs no `unsafe`.
fn fork(command: &mut Command) -> &mut Command {
    command.uid(nix::unistd::getuid().as_raw())
}

/// How long it takes until the caller can go on.
fn call(command: &mut Command) -> io::Result<Duration> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    let call = start.elapsed();
    child.wait()?;
    Ok(call)
}

/// For how long a thread that looks at the clock without a pause is kept from it.
///
/// That thread and the child want the same processors, so the call itself takes longer than alone.
fn stall(command: &mut Command) -> io::Result<Duration> {
    let running = AtomicBool::new(true);
    let watching = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            watching.store(true, Ordering::Relaxed);
            while running.load(Ordering::Relaxed) {
                let now = Instant::now();
                longest = longest.max(now - last);
                last = now;
            }
            longest
        });
        while !watching.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        let called = call(command);
        running.store(false, Ordering::Relaxed);
        let longest = watch
            .join()
            .map_err(|_| io::Error::other("the watching thread panicked"))?;
        called.map(|_| longest)
    })
}

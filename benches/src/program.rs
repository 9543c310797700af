//! A program under measurement, which says in lines on its standard output what it has reached.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    mem,
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use nix::{
    errno::Errno,
    sys::{
        prctl::set_child_subreaper,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use tempfile::{NamedTempFile, TempPath};

/// Copies a program, as an installation does, beside itself; the copy goes with the result.
///
/// What a linker has written lies in the page cache page by page, and what was copied in larger pieces. A process whose
/// program was just linked takes up to 0.1 ms longer to start and to end.
///
/// # Errors
///
/// If it cannot be copied.
pub fn install(program: &Path) -> io::Result<TempPath> {
    let directory = program.parent().ok_or(io::ErrorKind::NotFound)?;
    // Closed, or it could not be executed.
    let copy = NamedTempFile::new_in(directory)?.into_temp_path();
    fs::copy(program, &copy)?;
    Ok(copy)
}

/// A running program, ended when it is dropped.
#[derive(Debug)]
pub struct Program {
    input: Option<ChildStdin>,
    /// Shared by all generations: each inherits it from the one before.
    output: BufReader<ChildStdout>,
    /// The process that triggers and stops go to: the child, or a later generation.
    serving: Pid,
}

impl Program {
    /// Starts `command` with pipes for its standard input and output.
    ///
    /// # Errors
    ///
    /// If it cannot be executed.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_with(command, Stdio::piped())
    }

    /// Starts `command` with this standard input, and a pipe for its output.
    ///
    /// # Errors
    ///
    /// If it cannot be executed.
    pub fn start_with(command: &mut Command, input: Stdio) -> io::Result<Self> {
        // The later generations are orphans as soon as the first has gone.
        set_child_subreaper(true)?;
        let mut child = command.stdin(input).stdout(Stdio::piped()).spawn()?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the child has no output"))?;
        Ok(Self {
            serving: Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?),
            input: child.stdin.take(),
            output: BufReader::new(output),
        })
    }

    /// Sends a line to the program.
    ///
    /// # Errors
    ///
    /// If it has closed its standard input, or its standard input is no pipe.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{line}")
    }

    /// Sends `signal` to the generation that serves.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.serving, signal)?)
    }

    /// Waits for a line that starts with `word`, and returns what follows it. Other lines are passed over.
    ///
    /// # Errors
    ///
    /// If the program ends first.
    pub fn hear(&mut self, word: &str) -> io::Result<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!(
                    "the program ended before it said `{word}`"
                )));
            }
            if let Some(rest) = line.trim_end().strip_prefix(word) {
                return Ok(rest.trim_start().to_owned());
            }
        }
    }

    /// Returns the processor time that the threads of the generation that serves have used, in seconds.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn processor_time(&self) -> io::Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.serving))? {
            let times = fs::read_to_string(thread?.path().join("schedstat"))?;
            let running = times.split(' ').next().unwrap_or_default();
            nanoseconds += running.parse::<f64>().map_err(io::Error::other)?;
        }
        Ok(nanoseconds / 1e9)
    }

    /// Takes the process with this number as the one that serves, and waits until the one before has gone.
    ///
    /// # Errors
    ///
    /// If it is no number, or the one before is no child of this process, which adopts orphans.
    pub fn follow(&mut self, pid: &str) -> io::Result<()> {
        let before = mem::replace(
            &mut self.serving,
            Pid::from_raw(pid.parse().map_err(io::Error::other)?),
        );
        waitpid(before, None)?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Who has gone already needs no signal, and who has been waited for is no child any more.
        if self.signal(Signal::SIGKILL).is_ok() {
            while waitpid(self.serving, None) == Err(Errno::EINTR) {}
        }
    }
}

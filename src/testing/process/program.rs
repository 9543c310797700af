//! How a service is started.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cleanup::Mark;
use super::output::{Output, Source};
use super::pid::Process;
use super::service::Service;
use super::terminal::Terminal;

/// A program with all that it is started with.
///
/// The environment is inherited, with the changes made here. Standard input is `/dev/null`.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    directory: Option<PathBuf>,
    descriptors: Option<u32>,
    user: Option<u32>,
    adopts: bool,
}

impl Program {
    /// The program at `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            descriptors: None,
            user: None,
            adopts: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Starts it in another directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Limits the number of its descriptors (`RLIMIT_NOFILE`, soft and hard).
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Starts it as another user, and as the group of the same number.
    pub fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Takes every orphan that this process gets for one of the service, as it is with a program that becomes a daemon
    /// and hides its environment. Only where this process starts no other program.
    pub fn adopting(mut self) -> Self {
        self.adopts = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// If no process can be made, or the directory or the user cannot be taken on. A program that
    /// cannot be executed is an [`Exit`](crate::testing::Exit) with code 126 or 127.
    pub fn start(self) -> io::Result<Service> {
        self.start_with(Stdio::null(), &[])
    }

    /// Starts it with this as its standard input.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_on(self, stdin: OwnedFd) -> io::Result<Service> {
        self.start_with(Stdio::from(stdin), &[])
    }

    /// Starts it as the leader of a terminal, which is its standard input; its output is still
    /// [`Service::output`].
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), and if there is no terminal to be had.
    pub fn start_in_terminal(self) -> io::Result<(Service, Terminal)> {
        let (terminal, program) = Terminal::open()?;
        let service = self.start_with(Stdio::from(program), &["--ctty"])?;
        Ok((service, terminal))
    }

    fn start_with(self, stdin: Stdio, options: &[&str]) -> io::Result<Service> {
        let mark = Mark::new(self.adopts);
        // `setsid` executes the program in the same process, since a new child leads no group;
        // neither it nor the shell stays.
        let mut command = Command::new("setsid");
        command.args(options);
        if let Some(limit) = self.descriptors {
            command.args([
                "sh",
                "-c",
                &format!(r#"ulimit -n {limit} && exec "$@""#),
                "sh",
            ]);
        }
        command.arg(&self.path).args(&self.arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (name, value) = mark.variable();
        command.env(name, value);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let process = Process::open(child.id())?;
        let mut output = Output::new();
        output.read(
            Source::Stdout,
            child.stdout.take().expect("it was just asked for"),
        );
        output.read(
            Source::Stderr,
            child.stderr.take().expect("it was just asked for"),
        );
        Ok(Service::new(process, mark, output))
    }
}

//! What a successor is started from.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::inherited::Start;
use crate::sys::log;

/// What the user wants different from the way in which this process was started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    pub(crate) path: Option<PathBuf>,
    /// Without the program's name.
    pub(crate) arguments: Option<Vec<OsString>>,
    /// In this order; `None` removes a variable.
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    pub(crate) directory: Option<PathBuf>,
}

/// What one trigger wants different from the options of the service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) program: Program,
    pub(crate) ready_timeout: Option<Duration>,
}

/// Program, arguments, environment and directory of a successor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: Option<PathBuf>,
}

impl Program {
    /// The same, with what `others` says instead.
    pub(crate) fn changed(&self, others: &Self) -> Self {
        let mut environment = self.environment.clone();
        environment.extend(others.environment.iter().cloned());
        Self {
            path: others.path.clone().or_else(|| self.path.clone()),
            arguments: others.arguments.clone().or_else(|| self.arguments.clone()),
            environment,
            directory: others.directory.clone().or_else(|| self.directory.clone()),
        }
    }

    /// Fills what the user left open with what this process was started with.
    ///
    /// # Errors
    ///
    /// When nobody knows where the program is.
    pub(crate) fn resolve(&self, start: &Start) -> io::Result<Resolved> {
        let program = self
            .path
            .as_ref()
            .or(start.program.as_ref())
            .cloned()
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    "the path of this program is unknown; name it with `Builder::program`",
                )
            })?;
        let mut arguments = start.arguments.clone();
        if let Some(others) = &self.arguments {
            arguments.truncate(1);
            arguments.extend(others.iter().cloned());
        }
        let mut environment = start.environment.clone();
        for (key, value) in &self.environment {
            environment.retain(|(present, _)| present != key);
            environment.extend(value.clone().map(|value| (key.clone(), value)));
        }
        let directory = self.directory.clone().or_else(|| directory(start));
        Ok(Resolved {
            program,
            arguments,
            environment,
            directory,
        })
    }
}

/// The directory of the start, looked up anew. Where it has vanished a successor starts where this
/// process is, because a service that needs no directory should not depend on one.
fn directory(start: &Start) -> Option<PathBuf> {
    let directory = start.directory.as_deref()?;
    if Path::is_dir(directory) {
        return Some(directory.to_owned());
    }
    log::warn!(directory = %directory.display(), "the directory of the start has vanished");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Start {
        Start {
            program: Some("/opt/app".into()),
            arguments: vec!["app".into(), "--old".into()],
            environment: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
            directory: Some("/".into()),
            terminal: false,
        }
    }

    #[test]
    fn what_is_left_open_is_as_at_the_start() {
        let resolved = Program::default().resolve(&start()).expect("known");
        let Start {
            program,
            arguments,
            environment,
            directory,
            ..
        } = start();
        let program = program.expect("known");
        assert_eq!(
            resolved,
            Resolved {
                program,
                arguments,
                environment,
                directory
            }
        );
    }

    #[test]
    fn what_is_chosen_replaces_it() {
        let program = Program {
            path: Some("/opt/new".into()),
            arguments: Some(vec!["--new".into()]),
            environment: vec![
                ("A".into(), None),
                ("B".into(), Some("3".into())),
                ("C".into(), Some("4".into())),
            ],
            directory: Some("/tmp".into()),
        };
        let resolved = program.resolve(&start()).expect("known");
        assert_eq!(resolved.program, Path::new("/opt/new"));
        assert_eq!(resolved.arguments, ["app", "--new"]);
        assert_eq!(
            resolved.environment,
            [("B".into(), "3".into()), ("C".into(), "4".into())]
        );
        assert_eq!(resolved.directory.as_deref(), Some(Path::new("/tmp")));
    }

    #[test]
    fn a_trigger_has_the_last_word() {
        let options = Program {
            path: Some("/opt/new".into()),
            arguments: Some(vec!["--new".into()]),
            environment: vec![("B".into(), Some("3".into()))],
            directory: None,
        };
        let trigger = Program {
            arguments: Some(Vec::new()),
            environment: vec![("B".into(), None), ("C".into(), Some("4".into()))],
            ..Program::default()
        };
        let resolved = options.changed(&trigger).resolve(&start()).expect("known");
        assert_eq!(resolved.program, Path::new("/opt/new"));
        assert_eq!(resolved.arguments, ["app"]);
        assert_eq!(
            resolved.environment,
            [("A".into(), "1".into()), ("C".into(), "4".into())]
        );
    }

    #[test]
    fn a_directory_that_vanished_is_no_obstacle() {
        let start = Start {
            directory: Some("/nowhere/at/all".into()),
            ..start()
        };
        assert_eq!(
            Program::default().resolve(&start).expect("known").directory,
            None
        );
    }
}

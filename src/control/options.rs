//! What can be chosen about the control socket.

use std::fmt;

use nix::unistd::geteuid;

use super::host::Server;
use crate::Builder;
use crate::socket::{Endpoint, InvalidEndpoint};

/// A control socket: where it is, and who may speak to it.
///
/// It is a Unix socket of mode 0600. Whatever the mode, a client has to run as the user that the
/// service runs as, or as root, unless [`users`](Self::users) names others; the kernel tells who it
/// is (`SO_PEERCRED`, `unix(7)`).
///
/// It is handed over with the other endpoints, so that it never goes away, and it answers until the
/// last generation has ended. Connections to it are not counted in a drain; those that wait for
/// something move to the successor.
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use handover::control::Control;
/// use handover::{Builder, Error};
///
/// fn main() -> ExitCode {
///     let operators = 1000;
///     let control = Control::at("unix:/run/app.sock").mode(0o666).users([operators]);
///     Builder::new().control(control).run(|cx| async move {
///         cx.ready().await?;
///         cx.draining().await;
///         Ok::<(), Error>(())
///     })
/// }
/// ```
#[derive(Clone)]
pub struct Control {
    pub(super) endpoint: Result<Endpoint, InvalidEndpoint>,
    pub(super) users: Vec<u32>,
}

impl Control {
    /// A control socket on a Unix endpoint, as text: `unix:/run/app.sock`, or `systemd:control` for
    /// one that systemd passes.
    ///
    /// What is wrong with the text is an error of the start.
    pub fn at(endpoint: impl AsRef<str>) -> Self {
        Self {
            endpoint: endpoint
                .as_ref()
                .parse()
                .map(|endpoint: Endpoint| endpoint.mode(0o600)),
            users: Vec::new(),
        }
    }

    /// The mode of the socket's path, 0600 by default. To connect takes the right to write.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.endpoint = self.endpoint.map(|endpoint| endpoint.mode(mode));
        self
    }

    /// The owner of the socket's path: user and group, by number.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.endpoint = self.endpoint.map(|endpoint| endpoint.owner(uid, gid));
        self
    }

    /// Users, by number, who may speak to the service beside its own and root. The mode has to let
    /// them connect, too.
    #[must_use]
    pub fn users(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.users.extend(users);
        self
    }

    /// Whether a user may speak to the service.
    pub(super) fn admits(&self, user: u32) -> bool {
        user == 0 || user == geteuid().as_raw() || self.users.contains(&user)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("endpoint", &self.endpoint.as_ref().map(ToString::to_string))
            .field("users", &self.users)
            .finish()
    }
}

impl<T: AsRef<str>> From<T> for Control {
    fn from(endpoint: T) -> Self {
        Self::at(endpoint)
    }
}

impl Builder {
    /// A socket on which an operator asks what runs and commands a handover, such as
    /// `unix:/run/app.sock`; by default there is none.
    ///
    /// The program `handover` speaks its protocol, as does anything that can write a line of JSON.
    #[cfg_attr(docsrs, doc(cfg(feature = "control")))]
    pub fn control(self, control: impl Into<Control>) -> Self {
        self.integrate(Server::new(control.into()))
    }
}

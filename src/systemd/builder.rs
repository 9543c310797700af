//! The way in.

use super::environment::Environment;
use super::speaker::Systemd;
use crate::builder::Builder;

impl Builder {
    /// Makes the service a unit of systemd that is told what goes on, and that a handover does not
    /// end: `Type=notify-reload`, or `Type=notify` where systemd is older than 253.
    ///
    /// systemd learns when the service is ready, that and how a handover goes, which process is the
    /// main one, that the service stops, and that its runtime is alive (`WatchdogSec=`); its
    /// timeouts are extended while a start, a handover or a drain goes on; `systemctl status` has it
    /// all in words. With `FileDescriptorStoreMax=` listeners survive a crash and a restart. The
    /// [guide] has the unit files and what each setting does.
    ///
    /// The environment is read here. Where systemd has not started this program it does nothing.
    /// The variables stay as they are: a child of the service inherits `NOTIFY_SOCKET`, and what it
    /// says there is not believed unless the unit has `NotifyAccess=all`.
    ///
    /// [guide]: https://docs.rs/crate/handover/latest/source/docs/systemd.md
    ///
    /// # Examples
    ///
    /// ```no_run
    /// fn main() -> std::process::ExitCode {
    ///     handover::Builder::new().systemd().run(|cx| async move {
    ///         let mut listener = cx.bind("http=0.0.0.0:80").await?;
    ///         cx.ready().await?;
    ///         while let Some(conn) = listener.accept().await? {
    ///             drop(conn);
    ///         }
    ///         Ok::<(), Box<dyn std::error::Error>>(())
    ///     })
    /// }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "systemd")))]
    pub fn systemd(self) -> Self {
        self.integrate(Systemd::new(Environment::read()))
    }
}

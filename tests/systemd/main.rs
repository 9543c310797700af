//! A service under a real systemd, as PID 1 of a machine that each test makes for itself.
//!
//! Each scenario is tried on two versions: the one that is installed, and the newest of Debian.
//! `machine` is the harness; where the rights that it needs are missing, the tests say that they
//! were skipped and why, and with `CI=true` they fail.

/// Tries scenarios, functions that take a [`Machine`](machine::Machine), on each version of systemd.
macro_rules! on_each_version {
    ($($scenario:ident,)+) => {
        mod installed {
            $(#[tokio::test]
            async fn $scenario() {
                crate::machine::on(crate::machine::Root::Installed, super::$scenario).await;
            })+
        }
        mod trixie {
            $(#[tokio::test]
            async fn $scenario() {
                crate::machine::on(crate::machine::Root::Trixie, super::$scenario).await;
            })+
        }
    };
}

mod activation;
mod app;
mod deaths;
mod failures;
mod harness;
mod limits;
mod machine;
mod reloads;
mod starters;
mod store;
mod units;
mod users;
mod warnings;

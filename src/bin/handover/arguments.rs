//! What all commands have in common on the command line.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::commands::Command;
use crate::exit;

/// Operate a service that replaces its own process, and prove that no client notices.
#[derive(Debug, Parser)]
#[command(name = "handover", bin_name = "handover", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The control socket of the service
    #[arg(long, global = true, env = "HANDOVER_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON, whose shape is documented and stable
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

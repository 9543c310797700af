//! Real processes: started, watched, and ended without exception.

mod cleanup;
mod diagnosis;
mod family;
mod listening;
mod output;
mod pid;
mod procfs;
mod program;
mod service;
mod terminal;

pub use family::Weight;
pub(super) use family::{Family, Member};
pub use output::{Line, Output, Source};
pub use pid::{Exit, Process};
pub use procfs::{Descriptor, Memory, Status};
pub use program::Program;
pub use service::Service;
pub use terminal::Terminal;

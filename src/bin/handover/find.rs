//! Finds the control sockets of this machine.
//!
//! A service writes what it is into the lock beside its socket. Among the sockets that somebody
//! listens on (`/proc/net/unix`, see `proc(5)`) those are looked for, and asked whether they answer;
//! nobody else is disturbed. Sockets whose lock this user may not read are not found, nor are
//! abstract ones and those that systemd has made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover::testing::Target;
use serde_json::{Value, json};

use crate::client::{Client, Said};
use crate::exit::{Exit, Failure};

/// The control socket, where there is just one.
pub(crate) fn only() -> Result<PathBuf, Failure> {
    let mut found = all();
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(Failure::unavailable(
            "no service with a control socket is found here; name it with --socket or HANDOVER_SOCKET",
        )),
        _ => {
            let paths: Vec<_> = found
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(Failure::new(
                Exit::Usage,
                format_args!(
                    "there are {} services, name one with --socket or HANDOVER_SOCKET: {}",
                    paths.len(),
                    paths.join(", ")
                ),
            ))
        }
    }
}

fn all() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut paths: Vec<_> = table.lines().filter_map(listening).collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| Target::Unix(path.clone()).is_control() && answers(path));
    paths
}

/// The path of a line that describes a socket on which somebody listens.
fn listening(line: &str) -> Option<PathBuf> {
    const ACCEPTS: u32 = 1 << 16; // __SO_ACCEPTCON
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let path = fields.nth(3)?;
    // A path with a space in it is cut here; it has to be named.
    (flags & ACCEPTS != 0 && path.starts_with('/')).then(|| path.into())
}

fn answers(path: &Path) -> bool {
    let Ok(mut client) = Client::open(path) else {
        return false;
    };
    client.limit(Some(PATIENCE)).is_ok()
        && client.send(&json!({ "request": "ping" })).is_ok()
        && matches!(client.next(), Ok(Said::Answer(fields)) if fields.get("pid").is_some_and(Value::is_u64))
}

/// How long a socket may take to say that it is one.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_which_somebody_listens_is_found_by_its_path() {
        for (line, path) in [
            ("Num RefCount Protocol Flags Type St Inode Path", None),
            (
                "0000000000000000: 00000002 00000000 00010000 0001 01 77 /run/app.sock",
                Some("/run/app.sock"),
            ),
            (
                "0000000000000000: 00000002 00000000 00010000 0001 01 77 @app",
                None,
            ),
            (
                "0000000000000000: 00000003 00000000 00000000 0001 03 78 /run/app.sock",
                None,
            ),
            (
                "0000000000000000: 00000003 00000000 00000000 0001 03 78",
                None,
            ),
        ] {
            assert_eq!(listening(line).as_deref(), path.map(Path::new), "{line}");
        }
    }
}

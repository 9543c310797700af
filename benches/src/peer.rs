//! What ours and the peers have in common: the peers are programs on other crates, built apart, so that nobody who uses or tests this one compiles them.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// The address of the listener number `at`, on `port`: each has a loopback address of its own, since a service knows
/// its endpoints by their addresses, and 10,000 free ports are hard to find.
#[must_use]
pub fn address(at: u16, port: u16) -> SocketAddr {
    let [high, low] = at.to_be_bytes();
    SocketAddr::from(([127, 2, high, low], port))
}

/// Builds the program `name` of the workspace `benches/peers`, optimised, and returns its path.
///
/// # Errors
///
/// If it cannot be built, for want of the registry perhaps; the message says so.
pub fn build_peer(name: &str) -> io::Result<PathBuf> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let target = peers.join("target");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--bin",
            name,
            "--manifest-path",
        ])
        .arg(peers.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    if status.success() {
        Ok(target.join("release").join(name))
    } else {
        Err(io::Error::other(format!(
            "could not build the peer `{name}`: cargo says {status}"
        )))
    }
}

//! Claim: `handover::axum::serve` answers at least 0.98 times as many requests a second as `axum::serve`.
//!
//! `cargo bench -p handover-benches --bench axum` (eight minutes; needs `wrk` and `h2load`); with ` -- HTTP/2` behind it, for that only

use std::{error::Error, process::ExitCode};

use handover_benches::{Load, compare_servers};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    compare_servers(env!("CARGO_BIN_EXE_web"), ["handover", "axum"], &LOADS)
}

const LOADS: [Load; 3] = [
    Load {
        name: "HTTP/1.1, kept alive",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s"],
        path: "/",
        rate_before: "\nTransfer/sec",
        requests_before: " requests in",
    },
    Load {
        name: "HTTP/1.1, a connection for each request",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s", "-HConnection: close"],
        path: "/",
        rate_before: "\nTransfer/sec",
        requests_before: " requests in",
    },
    Load {
        name: "HTTP/2, 8 connections of 32 streams",
        program: "h2load",
        arguments: &["-t1", "-c8", "-m32", "-D1"],
        path: "/",
        rate_before: " req/s,",
        requests_before: " total,",
    },
];

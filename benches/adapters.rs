//! Claim: `handover::hyper::serve` and `handover::tonic::serve` answer at least 0.98 times as many requests a second as
//! what they take the place of: an accept loop with hyper-util's connection builder, and tonic's own server.
//!
//! `cargo bench -p handover-benches --bench adapters` (eight minutes; needs `wrk` and `h2load`)

use std::{error::Error, process::ExitCode};

use handover_benches::{Load, compare_servers};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let web = env!("CARGO_BIN_EXE_web");
    let hyper = compare_servers(web, ["handover-hyper", "hyper"], &HYPER)?;
    let tonic = compare_servers(web, ["handover-tonic", "tonic"], &TONIC)?;
    Ok(if hyper == ExitCode::SUCCESS {
        tonic
    } else {
        hyper
    })
}

const HYPER: [Load; 2] = [
    Load {
        name: "hyper, HTTP/1.1, kept alive",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s"],
        path: "/",
        rate_before: "\nTransfer/sec",
        requests_before: " requests in",
    },
    Load {
        name: "hyper, HTTP/2, 8 connections of 32 streams",
        program: "h2load",
        arguments: &["-t1", "-c8", "-m32", "-D1"],
        path: "/",
        rate_before: " req/s,",
        requests_before: " total,",
    },
];

/// A call without an argument: an empty message is five zeros, which is what the file has.
const TONIC: [Load; 1] = [Load {
    name: "gRPC, 8 connections of 32 calls",
    program: "h2load",
    arguments: &[
        "-t1",
        "-c8",
        "-m32",
        "-D1",
        "-Hcontent-type: application/grpc",
        "-Hte: trailers",
        concat!(
            "--data=",
            env!("CARGO_MANIFEST_DIR"),
            "/programs/empty.grpc"
        ),
    ],
    path: "/grpc.health.v1.Health/Check",
    rate_before: " req/s,",
    requests_before: " total,",
}];

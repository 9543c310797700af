//! A conversation with whatever a client may say, for tests and for a fuzzer.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::connection::{Connection, State};
use super::host::Host;
use super::options::Control;
use crate::error::Error;
use crate::protocol::Refusal;
use crate::run::{Input, Shared};

/// Says all of it, closes, and gives the lines that come back.
///
/// # Panics
///
/// When the service panics, or says something that is no answer: that is what is looked for.
#[allow(unreachable_pub, reason = "a fuzzer is another crate")]
pub fn converse(said: &[u8]) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let answer = runtime.block_on(exchange(said));
    let lines = answer.split(|&byte| byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let line: Value = serde_json::from_slice(line).expect("a line is JSON");
            let kinds = ["answer", "error", "progress", "event", "missed"];
            let kind = line["type"].as_str().expect("it has a type");
            assert!(kinds.contains(&kind), "{line}");
            line
        })
        .collect()
}

async fn exchange(said: &[u8]) -> Vec<u8> {
    let (shared, inputs) = Shared::alone();
    let host = Host::new(shared, Control::at("unix:/unused"), "control".to_owned());
    let host = Arc::new(host);
    tokio::spawn(lifecycle(inputs, Arc::clone(&host)));
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let place = host.clients.enter();
    let connection = Connection::new(Arc::clone(&host), theirs, place);
    let served = tokio::spawn(connection.serve(State::default()));
    let (mut reader, mut writer) = ours.into_split();
    let write = async {
        // A service that has heard enough does not hear the rest.
        writer.write_all(said).await.ok();
        writer.shutdown().await.ok();
    };
    let mut answer = Vec::new();
    let read = async {
        // What it has said before a reset has come.
        reader.read_to_end(&mut answer).await.ok();
    };
    let end = async {
        served.await.expect("no panic");
        // Those of a generation that has ended are kept until its process has.
        host.let_go();
    };
    tokio::join!(write, read, end);
    answer
}

/// A lifecycle task that does nothing, and says so.
async fn lifecycle(mut inputs: UnboundedReceiver<Input>, host: Arc<Host>) {
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Trigger {
                reply: Some(reply), ..
            } => {
                // Whoever asked may have gone.
                reply.send(Err(Error::refused(Refusal::NotServing))).ok();
            }
            Input::Mark(reached) => drop(reached.send(())),
            Input::Stop { .. } => host.ended.cancel(),
            _ => {}
        }
    }
}

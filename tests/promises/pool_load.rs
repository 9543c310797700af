//! HTTP/1.1 by reqwest, the client that most programs in Rust have, with its pool.

use std::net::SocketAddr;
use std::time::Duration;

use handover_tests::Identity;
use reqwest::{Client, Response};

use crate::tally::{Share, Tally};

/// Lets `clients` tasks share one client, each asking and thinking in turns.
pub(crate) fn pool_load(address: SocketAddr, clients: u32) -> Tally {
    let client = Client::new();
    let mut tally = Tally::new();
    for number in 0..clients {
        let client = client.clone();
        tally.add(async move |share: Share| {
            let url = format!("http://{address}/");
            // Some never think, so that there are always connections in use and idle ones.
            let thinks = Duration::from_millis(u64::from(number % 4) * 5);
            while !share.is_over() {
                let answer = match client.get(&url).send().await {
                    Ok(response) => identity(response).await,
                    Err(error) => Err(format!("{error:?}")),
                };
                match answer {
                    Ok(identity) => share.answered(identity),
                    Err(error) => share.failed(error),
                }
                tokio::time::timeout(thinks, std::future::pending::<()>())
                    .await
                    .ok();
            }
        });
    }
    tally
}

/// Reads who has answered.
async fn identity(response: Response) -> Result<Identity, String> {
    let status = response.status();
    let text = response
        .text()
        .await
        .map_err(|error| format!("{error:?}"))?;
    Identity::parse(&text)
        .filter(|_| status.is_success())
        .ok_or_else(|| format!("{status}: {text}"))
}

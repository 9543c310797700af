//! HTTP/1.1 by hyper's client with a pool, which is what reqwest is made of.

use std::net::SocketAddr;
use std::time::Duration;

use handover_tests::Identity;
use http_body_util::{BodyExt, Empty};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::tally::{Share, Tally};

/// Lets `clients` tasks share one client, each asking and thinking in turns.
pub(crate) fn pool_load(address: SocketAddr, clients: u32) -> Tally {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut tally = Tally::new();
    for number in 0..clients {
        let client = client.clone();
        tally.add(async move |share: Share| {
            let uri: hyper::Uri = format!("http://{address}/").parse().expect("an address");
            // Some never think, so that there are always connections in use and idle ones.
            let thinks = Duration::from_millis(u64::from(number % 4) * 5);
            while !share.is_over() {
                let answer = match client.get(uri.clone()).await {
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
async fn identity(response: Response<Incoming>) -> Result<Identity, String> {
    let status = response.status();
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    Identity::parse(&text)
        .filter(|_| status.is_success())
        .ok_or_else(|| format!("{status}: {text}"))
}

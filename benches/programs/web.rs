//! The service of the benches `axum` and `adapters`: one short answer, by a server of ours or by that of others.
//!
//! Says `serving ADDRESS` when it is up.

use std::{convert::Infallible, env, error::Error};

use axum::{Router, routing::get, serve::ListenerExt};
use handover::Context;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tonic::{service::Routes, transport::Server};
use tonic_health::server::health_reporter;

#[handover::main]
async fn main(cx: Context) -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", get(|| async { "hello" }));
    match env::args().nth(1).as_deref() {
        Some("handover") => {
            let listener = cx.bind("127.0.0.1:0").await?;
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            handover::axum::serve(listener, app).await?;
        }
        Some("axum") => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            // As ours does by itself.
            let listener = listener.tap_io(|stream| {
                stream.set_nodelay(true).ok();
            });
            axum::serve(listener, app).await?;
        }
        Some("handover-hyper") => {
            let listener = cx.bind("127.0.0.1:0").await?;
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            handover::hyper::serve(listener, service_fn(hello)).await?;
        }
        Some("hyper") => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service_fn(hello))
                        .await
                });
            }
        }
        Some("handover-tonic") => {
            let listener = cx.bind("127.0.0.1:0").await?;
            let (_, health) = health_reporter();
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            handover::tonic::serve(listener, Routes::new(health)).await?;
        }
        Some("tonic") => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let (_, health) = health_reporter();
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            Server::builder()
                .add_service(health)
                .serve_with_incoming(incoming)
                .await?;
        }
        _ => {
            return Err(
                "usage: web handover|axum|handover-hyper|hyper|handover-tonic|tonic".into(),
            );
        }
    }
    Ok(())
}

async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("hello".to_owned()))
}

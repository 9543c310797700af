//! An application that waits when told to.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use futures::{FutureExt, StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Incoming},
    upgrade::Upgraded,
};
use tokio::sync::Semaphore;

use crate::serve::{activity::Exchange, body::ExchangeBody, service::Application};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The length of a body that no buffers on the way can hold, in bytes.
pub(super) const LARGE: usize = 20_000_000;

/// The length of a body that the kernel takes at once, and keeps while the client does not read it.
pub(super) const MEDIUM: usize = 500_000;

#[derive(Clone)]
pub(super) struct App {
    entered: Arc<Semaphore>,
    released: Arc<Semaphore>,
    upgraded: Arc<tokio::sync::Mutex<Option<Upgraded>>>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            entered: Arc::new(Semaphore::new(0)),
            released: Arc::new(Semaphore::new(0)),
            upgraded: Arc::default(),
        }
    }
}

impl App {
    /// Waits until one more handler has come to its waiting point.
    pub(super) async fn entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    /// Lets one waiting handler go on.
    pub(super) fn release(&self) {
        self.released.add_permits(1);
    }

    /// The connection that `/upgrade` got.
    pub(super) async fn upgraded(&self) -> Upgraded {
        self.entered().await;
        self.upgraded.lock().await.take().unwrap()
    }

    async fn wait(self) {
        self.entered.add_permits(1);
        self.released.acquire().await.unwrap().forget();
    }

    async fn answer(self, request: Request<ExchangeBody<Incoming>>) -> Response<Body> {
        match request.uri().path() {
            "/" => text("hello"),
            "/hold" => {
                self.wait().await;
                text("held")
            }
            "/stream" => {
                let last = self.wait().map(|()| "last");
                let chunks = stream::iter(["first"]).chain(stream::once(last));
                let frames = chunks.map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
                Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
            }
            "/length" => {
                self.entered.add_permits(1);
                let body = request.into_body().collect().await.unwrap();
                text(&body.to_bytes().len().to_string())
            }
            "/later" => {
                tokio::spawn(async move {
                    request.into_body().collect().await.unwrap();
                    self.entered.add_permits(1);
                });
                text("accepted")
            }
            "/large" => text(&"x".repeat(LARGE)),
            "/medium" => text(&"x".repeat(MEDIUM)),
            "/ignore" => text("ignored"),
            "/panic" => panic!("as asked"),
            "/upgrade" => {
                tokio::spawn(async move {
                    let upgraded = hyper::upgrade::on(request).await.unwrap();
                    *self.upgraded.lock().await = Some(upgraded);
                    self.entered.add_permits(1);
                });
                let mut response = text("");
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("test"));
                response
            }
            path => panic!("no such path: {path}"),
        }
    }
}

fn text(text: &str) -> Response<Body> {
    Response::new(Full::from(text.to_owned()).boxed_unsync())
}

impl Application for App {
    type Body = Body;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>, exchange: &Exchange) -> Self::Future {
        let request = request.map(|body| ExchangeBody::of_request(exchange, body));
        Box::pin(self.clone().answer(request).map(Ok))
    }
}

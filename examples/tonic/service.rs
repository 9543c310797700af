//! The service of `greeter.proto`, answering in the name of this generation.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use handover::{Context, Token};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

use crate::greeter::greeter_server::Greeter;
use crate::greeter::{Answer, FollowRequest, Identity, WhoRequest, Word};

/// Which process answers, and when it no longer will.
#[derive(Clone)]
pub(crate) struct Who {
    identity: Identity,
    draining: Token,
}

impl Who {
    pub(crate) fn new(cx: &Context) -> Self {
        Self {
            identity: Identity {
                pid: std::process::id(),
                generation: cx.generation(),
            },
            draining: cx.draining(),
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Who {
    async fn who(&self, request: Request<WhoRequest>) -> Result<Response<Identity>, Status> {
        sleep(Duration::from_millis(request.into_inner().ms)).await;
        Ok(Response::new(self.identity))
    }

    type FollowStream = Answers<Identity>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let FollowRequest { count, ms } = request.into_inner();
        let identity = self.identity;
        let answers = stream::repeat(identity).then(move |identity| async move {
            sleep(Duration::from_millis(ms)).await;
            Ok(identity)
        });
        let answers: Answers<Identity> = match usize::try_from(count) {
            // One without end would last until the deadline of the drain, and get a status then. It need not wait.
            Ok(0) => {
                let replaced = Status::unavailable("this process has been replaced: call again");
                let draining = self.draining.cancelled_owned();
                let end = stream::once(async { Err(replaced) });
                Box::pin(answers.take_until(draining).chain(end))
            }
            Ok(count) => Box::pin(answers.take(count)),
            Err(_) => return Err(Status::out_of_range(format!("{count} is too many"))),
        };
        Ok(Response::new(answers))
    }

    type TalkStream = Answers<Answer>;

    /// Goes on until the client has said all, or the drain is over.
    async fn talk(
        &self,
        request: Request<Streaming<Word>>,
    ) -> Result<Response<Self::TalkStream>, Status> {
        let identity = self.identity;
        let answers = request.into_inner().map_ok(move |word| Answer {
            text: word.text,
            by: Some(identity),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

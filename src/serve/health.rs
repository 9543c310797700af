//! gRPC's health service, which knows of the drain.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ::tonic::{Request, Response, Status, server::NamedService};
use futures::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::watch;
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus as Wire,
        health_server::HealthServer,
    },
};

use crate::lifecycle::token::Token;

/// What gRPC's health service (`grpc.health.v1.Health`) says of the services of this generation.
///
/// From the start of the drain it says `NOT_SERVING` of all of them, whatever was set; calls of `Watch` are told so and
/// end, so that they keep nobody. Until then it says what was set, and of the server as a whole (the empty name)
/// `SERVING` unless that was set.
///
/// It is what `tonic_health`'s `HealthReporter` is otherwise. All clones are of the same health.
///
/// # Examples
///
/// ```no_run
/// use handover::tonic::Health;
/// use tonic::service::Routes;
///
/// # async fn example(listener: handover::Listener) -> std::io::Result<()> {
/// let health = Health::new(listener.draining());
/// health.set_service_status("greeter.Greeter", tonic_health::ServingStatus::Serving);
/// let routes = Routes::new(health.service());
/// handover::tonic::serve(listener, routes).await
/// # }
/// ```
#[derive(Clone)]
pub struct Health(Arc<Known>);

/// The health service itself, to be added to routes; made by [`Health::service`].
#[derive(Clone, Debug)]
pub struct HealthService(Health);

struct Known {
    services: watch::Sender<BTreeMap<String, ServingStatus>>,
    draining: Token,
}

impl Health {
    /// Makes the health of a server that serves until `draining`; see [`Listener::draining`](crate::Listener::draining).
    #[must_use]
    pub fn new(draining: Token) -> Self {
        let whole = (String::new(), ServingStatus::Serving);
        Self(Arc::new(Known {
            services: watch::Sender::new(BTreeMap::from([whole])),
            draining,
        }))
    }

    /// Returns the service that tells it.
    #[must_use]
    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService(self.clone()))
    }

    /// Says that the service `S` is served.
    pub fn set_serving<S: NamedService>(&self) {
        self.set_service_status(S::NAME, ServingStatus::Serving);
    }

    /// Says that the service `S` is not served.
    pub fn set_not_serving<S: NamedService>(&self) {
        self.set_service_status(S::NAME, ServingStatus::NotServing);
    }

    /// Says how the service `name` is; the empty name is the server as a whole.
    pub fn set_service_status(&self, name: impl Into<String>, status: ServingStatus) {
        self.0.services.send_modify(|services| {
            services.insert(name.into(), status);
        });
    }

    /// Forgets the service `name`.
    pub fn clear_service_status(&self, name: &str) {
        self.0.services.send_modify(|services| {
            services.remove(name);
        });
    }

    /// How a service is now; `None` if it is not known.
    fn status(&self, name: &str) -> Option<Wire> {
        let status = *self.0.services.borrow().get(name)?;
        Some(if self.0.draining.is_cancelled() {
            Wire::NotServing
        } else {
            status.into()
        })
    }

    /// How a service is, from now on, change by change.
    fn watch(self, name: String) -> BoxStream<'static, Wire> {
        let changes = self.0.services.subscribe();
        let nothing_told: Option<Wire> = None;
        let statuses = unfold(
            (self, name, changes, nothing_told),
            async |(health, name, mut changes, told)| {
                loop {
                    // Before the look, so that no change is missed.
                    let draining = health.0.draining.is_cancelled();
                    changes.mark_unchanged();
                    let status = health.status(&name).unwrap_or(Wire::ServiceUnknown);
                    if told != Some(status) {
                        return Some((status, (health, name, changes, Some(status))));
                    }
                    if draining {
                        return None;
                    }
                    tokio::select! {
                        // The sender is in `health`.
                        _ = changes.changed() => {}
                        () = health.0.draining.cancelled() => {}
                    }
                }
            },
        );
        statuses.boxed()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("services", &*self.0.services.borrow())
            .field("draining", &self.0.draining)
            .finish()
    }
}

#[::tonic::async_trait]
impl tonic_health::pb::health_server::Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        let status = self.0.status(&name);
        let status = status.ok_or_else(|| not_known(&name))?;
        Ok(Response::new(answer(status)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let statuses = self.0.clone().watch(request.into_inner().service);
        let answers = statuses.map(|status| Ok(answer(status)));
        Ok(Response::new(answers.boxed()))
    }
}

fn answer(status: Wire) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}

fn not_known(name: &str) -> Status {
    Status::not_found(format!("service `{name}` is not registered"))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn in_the_drain_everything_says_that_it_does_not_serve_and_watching_ends() {
        let draining = Token::new();
        let health = Health::new(draining.clone());
        let mut known = health.clone().watch(String::new());
        let mut unknown = health.clone().watch("a".to_owned());
        assert_eq!(known.next().await, Some(Wire::Serving));
        assert_eq!(unknown.next().await, Some(Wire::ServiceUnknown));
        assert_eq!(unknown.next().now_or_never(), None);

        health.set_service_status("a", ServingStatus::Serving);
        assert_eq!(unknown.next().await, Some(Wire::Serving));
        assert_eq!(known.next().now_or_never(), None);
        draining.cancel();
        health.set_service_status("a", ServingStatus::Serving);

        for mut watched in [known, unknown] {
            assert_eq!(watched.next().await, Some(Wire::NotServing));
            assert_eq!(watched.next().await, None);
        }
        assert_eq!(health.status("a"), Some(Wire::NotServing));
        assert_eq!(health.status("b"), None);
    }
}

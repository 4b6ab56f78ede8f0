//! REST of a JobManager that does not lead: each request goes on to the one that does.
//!
//! ```text
//!   client --> standby --the same request--> leader
//!                 `-- nobody leads, or it does not answer: 503
//! ```

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Duration;

use super::error::RestError;
use crate::high_availability::Role;

/// What Flink answers.
const NO_LEADER: &str = "Service temporarily unavailable due to an ongoing leader election. Please refresh.";
/// Of requests that a standby has handed on: they go no further.
const FORWARDED: HeaderName = HeaderName::from_static("x-thalweg-forwarded");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Without a byte for so long, a request has failed; what runs a program first takes its time.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Of one connection, not of a request.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub(super) struct Proxy {
    role: Role,
    client: Option<reqwest::Client>,
}

impl Proxy {
    pub(super) fn new(role: Role) -> Self {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build();
        Self {
            role,
            client: client.ok(),
        }
    }
}

/// In front of every handler.
pub(super) async fn to_leader(State(proxy): State<Proxy>, request: Request, next: Next) -> Response {
    if proxy.role.leads() {
        return next.run(request).await;
    }
    let unavailable = |message: String| RestError {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message,
    };
    let leader = proxy
        .role
        .leader()
        .filter(|_| !request.headers().contains_key(FORWARDED));
    let (Some(leader), Some(client)) = (leader, &proxy.client) else {
        return unavailable(NO_LEADER.to_owned()).into_response();
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let url = format!("http://{}{path}", leader.rest_address);
    let (parts, body) = request.into_parts();
    let mut headers = end_to_end(parts.headers);
    headers.insert(FORWARDED, HeaderValue::from_static("1"));
    let forwarded = client
        .request(parts.method, url)
        .headers(headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()));
    // A leader that hangs answers nobody: its successor is asked again.
    let answered = tokio::select! {
        answered = forwarded.send() => answered,
        () = proxy.role.until_another_leads(&leader) => {
            return unavailable(NO_LEADER.to_owned()).into_response();
        }
    };
    match answered {
        Ok(answer) => {
            let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(error) => {
            tracing::debug!(%error, leader = leader.rest_address, "a request could not be handed to the leader");
            unavailable(NO_LEADER.to_owned()).into_response()
        }
    }
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::high_availability::KnownLeader;
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_request_that_hangs_at_a_leader_is_answered_when_another_one_leads() {
        // It takes connections and never answers, as a paused process does.
        let paused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leader = KnownLeader {
            epoch: 1,
            rpc_address: String::new(),
            rest_address: paused.local_addr().unwrap().to_string(),
        };
        let (sender, role) = Role::standby();
        sender.follow(Some(leader));
        let router = Router::new().route("/", get(|| async { "led here" }));
        let router = router.layer(axum::middleware::from_fn_with_state(Proxy::new(role), to_leader));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let request = tokio::spawn(reqwest::get(url));
        // It has reached the one that is paused.
        let (_connection, _) = paused.accept().await.unwrap();
        sender.follow(None);
        let answer = tokio::time::timeout(Duration::from_secs(60), request).await;
        assert_eq!(
            answer.unwrap().unwrap().unwrap().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        serving.abort();
    }
}

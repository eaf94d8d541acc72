//! What the dashboard asks for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use etcd_sync_program::now_ms;
use futures_util::stream::{self, StreamExt};
use tokio::sync::broadcast::error::RecvError;

use super::query::{Parameters, Taken, refused};
use super::{Server, json, text};
use crate::board::{self, Event};
use crate::filter::{self, Filter};

/// A comment line at least so often keeps proxies from closing a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Rows given unless asked for otherwise, and at most.
const ROWS: usize = 200;
const ROWS_MAX: usize = 1_000;

/// `/api/state`: everything.
pub async fn state(State(server): State<Arc<Server>>) -> Response {
    json(StatusCode::OK, server.board.state())
}

/// `/api/events`: the whole state, and then what changes.
pub async fn events(State(server): State<Arc<Server>>) -> Response {
    let Ok(page) = Arc::clone(&server.pages).try_acquire_owned() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n");
    };
    // Before the state is read: what happens in between is told twice rather than never.
    let receiver = server.board.subscribe();
    let mut stop = server.stop.clone();
    let events =
        stream::unfold((Arc::clone(&server), receiver, true, page), async |(server, mut receiver, first, page)| {
            let whole = |server: &Server| Event { name: "state", data: server.board.state().into() };
            let event = match first {
                true => whole(&server),
                false => match receiver.recv().await {
                    Ok(event) => event,
                    // The page was too slow for the events in between.
                    Err(RecvError::Lagged(_)) => whole(&server),
                    Err(RecvError::Closed) => return None,
                },
            };
            Some((event, (server, receiver, false, page)))
        });
    let events = events.take_until(async move { stop.wanted().await });
    let events = events.map(|event| Ok::<_, Infallible>(sse::Event::default().event(event.name).data(event.data)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// `/api/differences`: the known differences that match a filter.
pub async fn differences(State(server): State<Arc<Server>>, parameters: Parameters) -> Response {
    let filter = match filter_of(parameters) {
        Ok(filter) => filter,
        Err(problem) => return refused(&problem),
    };
    let (known, ids) = server.board.history(|history| {
        let ids = (history.latest().map(|(id, _)| *id), history.latest_deep().map(|(id, _)| *id));
        (history.known(), ids)
    });
    let since = |finding: &_| server.board.history(|history| history.since_ms(finding));
    let found = filter::apply(&filter, &known, ids, &server.config.scope, since);
    json(StatusCode::OK, board::json(&found))
}

/// `POST /api/check`: begins a comparison; the events tell the rest.
pub async fn begin(State(server): State<Arc<Server>>, headers: HeaderMap, parameters: Parameters) -> Response {
    // Browsers say whose page asks; programs do not.
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = |origin: &str| origin.split_once("://").map(|(_, host)| host) == value("host");
    if value("origin").is_some_and(|origin| !own(origin)) {
        return text(StatusCode::FORBIDDEN, "only the page of this monitor may start a comparison\n");
    }
    let mut taken = Taken::new(parameters);
    let deep = match taken.switch("deep").and_then(|deep| taken.done("deep=1").map(|()| deep)) {
        Ok(deep) => deep,
        Err(problem) => return refused(&problem),
    };
    match server.checks.begin(deep) {
        true => json(StatusCode::ACCEPTED, "{}\n"),
        false => text(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for a comparison\n"),
    }
}

fn filter_of(parameters: Parameters) -> Result<Filter, String> {
    let mut taken = Taken::new(parameters);
    let ago = |seconds: usize| now_ms().saturating_sub(seconds as u64 * 1_000);
    let filter = Filter {
        difference: taken.text("difference"),
        namespace: taken.text("namespace"),
        resource: taken.text("resource"),
        reason: taken.text("reason"),
        text: taken.text("q"),
        seen_until_ms: taken.number("olderThan")?.map(ago),
        seen_after_ms: taken.number("newerThan")?.map(ago),
        offset: taken.number("offset")?.unwrap_or(0),
        limit: taken.number("limit")?.unwrap_or(ROWS).min(ROWS_MAX),
    };
    taken.done("difference, namespace, resource, reason, q, olderThan, newerThan, offset, limit")?;
    Ok(filter)
}

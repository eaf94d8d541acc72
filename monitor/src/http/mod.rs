//! The listener. Every answer that depends on the clusters wants the token, if there is one.

mod api;
mod check;
mod metrics;
mod pages;
mod query;
mod rendered;
mod token;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use etcd_sync_program::Stop;
use etcd_sync_program::certificates::Watched;
use etcd_sync_program::config::{Config, MonitorConfig};
use tokio::sync::Semaphore;
use tracing::info;

use self::metrics::Metrics;
use self::rendered::Rendered;
use self::token::Token;
use crate::board::Board;
use crate::checks::Checks;

/// Pages that may be open at once.
const PAGES_MAX: usize = 100;

/// What is under way at the end may take so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Nothing but this server's own files and answers; no inline script or style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the answers need.
struct Server {
    config: Arc<Config<MonitorConfig>>,
    board: Arc<Board>,
    checks: Checks,
    metrics: Metrics,
    certificates: Watched,
    token: Token,
    pages: Arc<Semaphore>,
    rendered: Rendered,
    stop: Stop,
}

/// Answers until the process should end.
pub async fn serve(config: Arc<Config<MonitorConfig>>, board: Arc<Board>, checks: Checks, stop: Stop) -> Result<()> {
    let listen = config.command.listen;
    let listener = etcd_sync_program::listen::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}: give a free address with --listen ADDR:PORT"))?;
    info!(address = %listener.local_addr()?, "serving /, /check, /metrics, /healthz and /readyz");
    let token = Token::new(config.command.token_file.clone());
    // A file that cannot be read shall be known at once, not when the first caller comes.
    token.read().context("--token-file")?;
    let metrics = Metrics::new();
    let certificates = Watched::new(&config);
    let pages = Arc::new(Semaphore::new(PAGES_MAX));
    let server = Arc::new(Server {
        config,
        board,
        checks,
        metrics,
        certificates,
        token,
        pages,
        rendered: Rendered::default(),
        stop: stop.clone(),
    });
    let router = router(server);
    let mut ending = stop.clone();
    let graceful = async move { ending.wanted().await };
    let mut late = stop;
    tokio::select! {
        ended = axum::serve(listener, router).with_graceful_shutdown(graceful) => ended.context("the listener failed"),
        () = async { late.wanted().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => Ok(()),
    }
}

fn router(server: Arc<Server>) -> Router {
    let guarded = Router::new()
        .route("/", get(pages::dashboard))
        .route("/check", get(check::check))
        .route("/metrics", get(metrics::metrics))
        .route("/api/state", get(api::state))
        .route("/api/events", get(api::events))
        .route("/api/differences", get(api::differences))
        .route("/api/check", post(api::begin))
        .layer(from_fn_with_state(Arc::clone(&server), token::guard));
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/login", post(token::login))
        .route("/assets/{name}", get(pages::asset));
    open.merge(guarded).layer(from_fn(headers)).with_state(server)
}

/// Ready to answer: both clusters were asked at least once, whatever they said. A monitor that cannot tell has to be asked
/// why, so it stays in service.
async fn ready(State(server): State<Arc<Server>>) -> (StatusCode, &'static str) {
    match server.board.last_observed() {
        Some(_) => (StatusCode::OK, "answering\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "asking both clusters for the first time\n"),
    }
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A plain text answer.
fn text(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    (status, [("content-type", "text/plain; charset=utf-8")], body.into()).into_response()
}

/// A JSON answer.
fn json(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    (status, [("content-type", "application/json")], body.into()).into_response()
}

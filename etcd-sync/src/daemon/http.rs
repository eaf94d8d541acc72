//! The daemon's listener: `/healthz` (the process), `/readyz` (caught up lately), `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use etcd_sync_program::metrics::CONTENT_TYPE;
use etcd_sync_store::{Side, TlsFiles};
use tracing::info;

use super::health::Health;
use super::metrics::Metrics;
use crate::readiness::certificates::expiry;

/// How long files may take.
const FILES: Duration = Duration::from_secs(2);

struct Server {
    health: Arc<Health>,
    metrics: Metrics,
    files: [(Side, TlsFiles); 2],
}

/// Listens until the process ends. `files`: what is told of when it expires.
pub async fn serve(listen: SocketAddr, health: Arc<Health>, files: [(Side, TlsFiles); 2]) -> Result<()> {
    let listener = etcd_sync_program::listen::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}: give a free address with --listen ADDR:PORT"))?;
    info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    let server = Arc::new(Server { health, metrics: Metrics::new(), files });
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(server);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

async fn ready(State(server): State<Arc<Server>>) -> (StatusCode, String) {
    match server.health.snapshot().ready {
        Ok(how) => (StatusCode::OK, format!("{how}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(server): State<Arc<Server>>) -> ([(&'static str, &'static str); 1], String) {
    let files = server.files.clone();
    // A file may lie on a disk that hangs: that is no reason to be silent.
    let expiry = tokio::task::spawn_blocking(move || files.map(|(side, files)| (side, expiry(&files))));
    let unknown = [(Side::Primary, None), (Side::Standby, None)];
    let expiry = tokio::time::timeout(FILES, expiry).await.map_or(unknown, |read| read.unwrap_or(unknown));
    let page = server.metrics.render(&server.health.snapshot(), expiry);
    ([("content-type", CONTENT_TYPE)], page)
}

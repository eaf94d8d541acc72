//! The daemon's listener: `/healthz` (the process), `/readyz` (caught up lately), `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use etcd_sync_program::certificates::Watched;
use etcd_sync_program::metrics::CONTENT_TYPE;
use tracing::info;

use super::health::Health;
use super::metrics::Metrics;

struct Server {
    health: Arc<Health>,
    metrics: Metrics,
    certificates: Watched,
}

/// Listens until the process ends. `certificates`: those whose expiry the metrics show.
pub async fn serve(listen: SocketAddr, health: Arc<Health>, certificates: Watched) -> Result<()> {
    let listener = etcd_sync_program::listen::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}: give a free address with --listen ADDR:PORT"))?;
    info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    let server = Arc::new(Server { health, metrics: Metrics::new(), certificates });
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
    let ends = server.certificates.ends().await;
    let page = server.metrics.render(&server.health.snapshot(), ends);
    ([("content-type", CONTENT_TYPE)], page)
}

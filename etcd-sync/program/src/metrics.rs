//! A page of metrics in Prometheus' text format, set again at every scrape; nothing global.

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

const METADATA: Metadata<'_> = Metadata::new("etcd_sync", Level::INFO, None);

/// What the page is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page.
pub struct Page {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Page {
    /// Describes every metric: (name, help).
    pub fn new(descriptions: &[(&'static str, &'static str)]) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, help) in descriptions {
            recorder.describe_gauge((*name).into(), None, (*help).into());
        }
        Page { handle: recorder.handle(), recorder }
    }

    /// Sets a gauge.
    pub fn gauge(&self, name: &'static str, label: Option<(&'static str, &'static str)>, value: f64) {
        self.recorder.register_gauge(&key(name, label.as_slice()), &METADATA).set(value);
    }

    /// Sets a counter that is counted elsewhere.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &'static str)], value: u64) {
        self.recorder.register_counter(&key(name, labels), &METADATA).absolute(value);
    }

    /// The text.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, *value)).collect();
    Key::from_parts(name, labels)
}

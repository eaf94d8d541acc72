//! Log lines, on stderr.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{LogFormat, LogLevel};

/// The tracing target of lines about single keys.
pub const DETAIL: &str = "detail";

/// Starts logging; the first call decides for the process. `detail`: also lines about single keys, at any level up to
/// debug whatever `level` says.
pub fn init(format: LogFormat, level: LogLevel, detail: bool) {
    let subscriber = subscriber(format, level, detail, std::io::stderr().is_terminal(), std::io::stderr);
    // A second call comes from a test in the same process.
    let _ = subscriber.try_init();
}

fn subscriber<W>(
    format: LogFormat,
    level: LogLevel,
    detail: bool,
    terminal: bool,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let keys = if detail { LevelFilter::DEBUG.max(level) } else { LevelFilter::OFF };
    // Below info, libraries log every frame they send.
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::INFO) };
    let filter = Targets::new()
        .with_default(level)
        .with_targets(["h2", "hyper", "hyper_util", "rustls", "tower", "tonic"].map(|name| (name, libraries)))
        // The HTTP client logs every failure as an error; our own error has it with the remedy.
        .with_target("kube_client::client::builder", if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF })
        .with_target(DETAIL, keys);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(terminal).with_target(false).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, level: LogLevel, detail: bool, emit: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        tracing::subscriber::with_default(subscriber(format, level, detail, false, move || writer.clone()), emit);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_has_time_level_message_and_fields() {
        let text = lines(LogFormat::Text, LogLevel::Info, false, || tracing::info!(revision = 7, "Start Sync update"));
        let (time, rest) = text.trim_end().split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{text}");
        assert_eq!(rest.trim_start(), "INFO Start Sync update revision=7");
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = lines(LogFormat::Json, LogLevel::Info, false, || tracing::warn!(revision = 7, "behind"));
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["revision"]),
            (&"WARN".into(), &"behind".into(), &7.into())
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line.as_object().unwrap().len(), 4);
    }

    #[test]
    fn keys_appear_only_when_asked_for() {
        let emit = || tracing::info!(target: DETAIL, key = "/registry/a", "put");
        assert_eq!(lines(LogFormat::Text, LogLevel::Trace, false, emit), "");
        assert!(lines(LogFormat::Text, LogLevel::Warn, true, emit).contains("/registry/a"));
    }

    #[test]
    fn failures_that_are_told_anyway_stand_once() {
        let emit =
            || tracing::error!(target: "kube_client::client::builder", "failed with error client error (Connect)");
        assert_eq!(lines(LogFormat::Text, LogLevel::Info, false, emit), "");
        assert!(lines(LogFormat::Text, LogLevel::Debug, false, emit).contains("failed with"));
    }

    #[test]
    fn lines_below_the_level_are_omitted() {
        let emit = || {
            tracing::debug!("own");
            tracing::debug!(target: "h2::codec", "frame");
        };
        assert_eq!(lines(LogFormat::Text, LogLevel::Info, false, emit), "");
        let text = lines(LogFormat::Text, LogLevel::Debug, false, emit);
        assert!(text.contains("own") && !text.contains("frame"));
    }
}

//! `/check`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use etcd_sync_core::compare::check::Report;
use etcd_sync_operations::text::moment;
use serde_json::json;

use super::query::{Parameters, Taken, refused};
use super::{Server, json, text};
use crate::checks::Checked;

/// Keys shown under each heading of a text, unless asked for otherwise.
const TEXT_LIMIT: usize = 100;

const KNOWN: &str = "deep=1, last=1, format=json, format=text, limit=N (0: all), fail=1";

const NO_LAST: &str = "no comparison has ended with a verdict since the monitor started";

/// What a caller asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    deep: bool,
    /// What is known already.
    last: bool,
    json: bool,
    fail: bool,
    /// `None`: all.
    limit: Option<usize>,
}

/// Compares now, or looks up the last comparison, and answers: 200 with a report, 503 with the reason why there is none, 409 on differences if asked to.
pub async fn check(State(server): State<Arc<Server>>, headers: HeaderMap, parameters: Parameters) -> Response {
    let asked = match Asked::new(parameters, &headers) {
        Ok(asked) => asked,
        Err(problem) => return refused(&problem),
    };
    let (id, ended_ms, report) = match asked.last {
        true => match server.board.history(|history| history.last(asked.deep)) {
            Some(last) => last,
            None => return unknown(&asked, NO_LAST),
        },
        false => match server.checks.check(asked.deep).await {
            Some(Checked { id, ended_ms, report: Ok(report) }) => (id, ended_ms, report),
            Some(Checked { report: Err(error), .. }) => return unknown(&asked, &error),
            None => return unknown(&asked, "too many requests wait for a comparison: try again in a moment"),
        },
    };
    let status = match asked.fail && !report.consistent() {
        true => StatusCode::CONFLICT,
        false => StatusCode::OK,
    };
    let limit = asked.limit.unwrap_or(usize::MAX);
    let more = if asked.json { String::new() } else { more(&asked, &report, &headers) };
    let render = || match asked.json {
        true => server.board.report_json(&report, &server.config.scope, limit, ended_ms),
        false => Ok(asked.dated(report.text(limit, &more), ended_ms).into_bytes()),
    };
    // A text of what is past is dated, so it is another one.
    let told = format!("{more} {}", asked.last);
    match server.rendered.get((id, asked.json, asked.limit, told), render).await {
        Ok(document) if asked.json => json(status, document),
        Ok(document) => text(status, document),
        Err(error) => unknown(&asked, &error.to_string()),
    }
}

impl Asked {
    fn new(parameters: Parameters, headers: &HeaderMap) -> Result<Asked, String> {
        let mut taken = Taken::new(parameters);
        let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
        let json = match taken.text("format").as_str() {
            "" => accepted.is_some_and(|accepted| accepted.contains("application/json")),
            "json" => true,
            "text" => false,
            _ => return Err("format: expected json or text".into()),
        };
        // Programs get everything unless they ask for less.
        let unless_asked = if json { None } else { Some(TEXT_LIMIT) };
        let limit = taken.number("limit")?.map_or(unless_asked, |limit| (limit != 0).then_some(limit));
        let (deep, last, fail) = (taken.switch("deep")?, taken.switch("last")?, taken.switch("fail")?);
        taken.done(KNOWN)?;
        Ok(Asked { deep, last, json, fail, limit })
    }

    /// A text of what is past says when it was, under its first line.
    fn dated(&self, text: String, ended_ms: u64) -> String {
        match text.split_once('\n') {
            Some((verdict, rest)) if self.last => {
                format!("{verdict}\nThis is the last comparison; it ended at {}.\n{rest}", moment(ended_ms))
            }
            _ => text,
        }
    }
}

fn unknown(asked: &Asked, why: &str) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match asked.json {
        true => json(status, format!("{}\n", json!({ "error": why }))),
        false => text(status, format!("CANNOT TELL: {why}\n")),
    }
}

/// How to see the keys that were cut.
fn more(asked: &Asked, report: &Report, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    // It is the caller's word: only what a host can be is shown.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let host = host.filter(|host| host.bytes().all(allowed)).map(|host| format!("http://{host}")).unwrap_or_default();
    let deep = if asked.deep { "deep=1&" } else { "" };
    let last = if asked.last { "last=1&" } else { "" };
    let kept = [&report.missed, &report.surplus, &report.mismatched, &report.status];
    let all = kept.iter().all(|kept| kept.first.len() as u64 == kept.count);
    match (all, asked.limit) {
        (false, None) => "more than are kept".into(),
        (_, _) => format!("{host}/check?{deep}{last}limit=0"),
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use axum::http::Uri;

    use super::*;

    fn asked(query: &str, accept: &str) -> Result<Asked, String> {
        let uri: Uri = format!("/check?{query}").parse().unwrap();
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        Asked::new(Query::try_from_uri(&uri).unwrap(), &headers)
    }

    #[test]
    fn curl_gets_text_and_programs_get_json() {
        let plain = asked("", "*/*").unwrap();
        assert_eq!(plain, Asked { deep: false, last: false, json: false, fail: false, limit: Some(100) });
        assert!(asked("", "application/json, */*").unwrap().json);
        assert!(!asked("format=text", "application/json").unwrap().json);
        let all = asked("format=json&deep=1&fail", "*/*").unwrap();
        assert_eq!(all, Asked { deep: true, last: false, json: true, fail: true, limit: None });
        assert!(asked("last=1", "*/*").unwrap().last);
        assert_eq!(asked("limit=0", "*/*").unwrap().limit, None);
        assert_eq!(asked("limit=7&format=json", "*/*").unwrap().limit, Some(7));
    }

    #[test]
    fn a_slip_is_refused() {
        for (query, expected) in [
            ("depp=1", "\"depp\" is no parameter here"),
            ("deep=yes", "deep: expected 1 or 0"),
            ("limit=-1", "limit: expected a whole number"),
            ("format=xml", "format: expected json or text"),
        ] {
            let problem = asked(query, "*/*").unwrap_err();
            assert!(problem.contains(expected), "{query}: {problem}");
        }
    }
}

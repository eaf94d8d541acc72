//! The dashboard's files, built into the program.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::text;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// Where the login page tells what went wrong.
const MESSAGE: &str = "{{message}}";

/// `/`.
pub async fn dashboard() -> Response {
    file("index.html")
}

/// `/assets/<name>`: everything the pages need. It holds nothing of the clusters.
pub async fn asset(Path(name): Path<String>) -> Response {
    file(&name)
}

/// The form that asks a browser for the token; `message` is one of our own texts.
pub fn login(status: StatusCode, message: &'static str) -> Response {
    let page = Assets::get("login.html").map(|file| String::from_utf8_lossy(&file.data).replace(MESSAGE, message));
    (status, [("content-type", "text/html; charset=utf-8")], page.unwrap_or_default()).into_response()
}

fn file(name: &str) -> Response {
    match Assets::get(name) {
        Some(file) => (StatusCode::OK, [("content-type", content_type(name))], file.data).into_response(),
        None => text(StatusCode::NOT_FOUND, "there is no such file\n"),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type_and_the_pages_name_no_other_host() {
        let names: Vec<_> = Assets::iter().collect();
        assert!(names.iter().any(|name| name == "index.html") && names.iter().any(|name| name == "login.html"));
        for name in names {
            assert_ne!(content_type(&name), "application/octet-stream", "{name}");
            let data = Assets::get(&name).unwrap().data;
            let text = String::from_utf8(data.into_owned()).unwrap();
            let outside: Vec<&str> =
                text.split("://").skip(1).filter(|rest| !rest.starts_with("www.w3.org/")).collect();
            assert!(outside.is_empty(), "{name} names another host: {outside:?}");
        }
    }
}

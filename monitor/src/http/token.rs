//! The bearer token, for programs in a header, for browsers in a cookie.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Form;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, COOKIE, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tracing::error;

use super::{Server, pages, text};

const COOKIE_NAME: &str = "etcd-sync-monitor";

/// The token's file.
pub struct Token {
    file: Option<PathBuf>,
}

/// What the login page sends.
#[derive(Deserialize)]
pub struct Login {
    token: String,
}

impl Token {
    /// Without a file everybody is let in.
    pub fn new(file: Option<PathBuf>) -> Self {
        Token { file }
    }

    /// The token as the file is now; `None`: none is wanted.
    ///
    /// # Errors
    /// The file cannot be read, or is empty.
    pub fn read(&self) -> Result<Option<String>> {
        let Some(file) = &self.file else { return Ok(None) };
        let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let token = token.trim();
        ensure!(!token.is_empty(), "{} is empty: write a token into it, or omit the flag", file.display());
        Ok(Some(token.to_owned()))
    }
}

/// Lets those in who know the token.
pub async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let token = match server.token.read() {
        Ok(None) => return next.run(request).await,
        Ok(Some(token)) => token,
        Err(error) => return unreadable(&error),
    };
    if knows(request.headers(), &token) {
        return next.run(request).await;
    }
    let browser = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if browser.is_some_and(|accept| accept.contains("text/html")) {
        return pages::login(StatusCode::UNAUTHORIZED, "");
    }
    let words = "a token is required: send the header 'Authorization: Bearer TOKEN'\n";
    let mut response = text(StatusCode::UNAUTHORIZED, words);
    response.headers_mut().insert(WWW_AUTHENTICATE, "Bearer".parse().expect("a fixed text"));
    response
}

/// `POST /login`: a browser's way to give the token.
pub async fn login(State(server): State<Arc<Server>>, Form(login): Form<Login>) -> Response {
    let token = match server.token.read() {
        Ok(None) => return Redirect::to("/").into_response(),
        Ok(Some(token)) => token,
        Err(error) => return unreadable(&error),
    };
    if !equal(login.token.trim(), &token) {
        return pages::login(StatusCode::UNAUTHORIZED, "The token is wrong.");
    }
    let cookie = format!("{COOKIE_NAME}={}; HttpOnly; SameSite=Strict; Path=/", proof(&token));
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

fn knows(headers: &HeaderMap, token: &str) -> bool {
    let value = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let bearer = value(AUTHORIZATION).filter_map(|value| value.split_once(' '));
    let mut bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let cookies = value(COOKIE).flat_map(|value| value.split(';'));
    let mut cookies =
        cookies.filter_map(|cookie| cookie.trim().split_once('=')).filter(|(name, _)| *name == COOKIE_NAME);
    bearer.any(|(_, given)| equal(given.trim(), token)) || cookies.any(|(_, given)| equal(given, &proof(token)))
}

/// What the cookie holds: the token itself stays out of the browser's store.
fn proof(token: &str) -> String {
    digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In the same time wherever they differ.
fn equal(one: &str, other: &str) -> bool {
    let digests = [one, other].map(|text| digest(&SHA256, text.as_bytes()));
    verify_slices_are_equal(digests[0].as_ref(), digests[1].as_ref()).is_ok()
}

fn unreadable(why: &anyhow::Error) -> Response {
    error!(error = format!("{why:#}"), "--token-file");
    text(StatusCode::SERVICE_UNAVAILABLE, "the token file cannot be read: the reason is in the log of the monitor\n")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn knows_with(name: HeaderName, value: &str) -> bool {
        knows(&HeaderMap::from_iter([(name, value.parse().unwrap())]), "s3cret")
    }

    #[test]
    fn only_the_token_lets_in() {
        assert!(knows_with(AUTHORIZATION, "Bearer s3cret") && knows_with(AUTHORIZATION, "bearer  s3cret"));
        assert!(knows_with(COOKIE, &format!("a=b; {COOKIE_NAME}={}", proof("s3cret"))));
        for value in ["Bearer s3cre", "Bearer ", "Basic s3cret", "s3cret"] {
            assert!(!knows_with(AUTHORIZATION, value), "{value}");
        }
        for value in [format!("{COOKIE_NAME}=s3cret"), format!("{COOKIE_NAME}="), format!("x={}", proof("s3cret"))] {
            assert!(!knows_with(COOKIE, &value), "{value}");
        }
        assert!(!knows(&HeaderMap::new(), "s3cret"));
    }

    #[test]
    fn an_empty_file_is_refused_and_a_changed_one_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = Token::new(Some(file.path().to_owned()));
        assert!(token.read().unwrap_err().to_string().contains("is empty"));
        std::fs::write(file.path(), "one\n").unwrap();
        assert_eq!(token.read().unwrap().as_deref(), Some("one"));
        assert_eq!(Token::new(None).read().unwrap(), None);
    }
}

//! The words after the question mark. An unknown one is refused: a slip must not change what is asked without a word.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::Response;

/// The parameters of a request.
pub type Parameters = Query<BTreeMap<String, String>>;

/// Parameters, taken one after the other.
pub struct Taken(BTreeMap<String, String>);

impl Taken {
    /// From a request.
    pub fn new(Query(parameters): Parameters) -> Self {
        Taken(parameters)
    }

    /// A text; empty when it is not given.
    pub fn text(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    /// A switch: `1`, `true` or nothing after the name are on.
    ///
    /// # Errors
    /// What was expected.
    pub fn switch(&mut self, name: &str) -> Result<bool, String> {
        match self.0.remove(name).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(format!("{name}: expected 1 or 0")),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// What was expected.
    pub fn number(&mut self, name: &str) -> Result<Option<usize>, String> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name}: expected a whole number"))
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Which name is not known.
    pub fn done(self, known: &str) -> Result<(), String> {
        match self.0.keys().next() {
            // The name is outside input.
            Some(name) => Err(format!("{name:?} is no parameter here; there are: {known}")),
            None => Ok(()),
        }
    }
}

/// The answer to a request that cannot be understood.
pub fn refused(problem: &str) -> Response {
    super::text(StatusCode::BAD_REQUEST, format!("{problem}\n"))
}

//! The header of an object in JSON.

use super::loose::{Loose, Object};
use super::{Form, Header, Undecodable};

/// Reads a whole JSON document: its syntax is checked to the end, its nesting without recursion outside the header.
pub(super) fn header(plain: &[u8]) -> Result<Header, Undecodable> {
    // serde_json's own message may quote the value.
    let Loose(object) = serde_json::from_slice::<Loose<Object>>(plain).map_err(|_| Undecodable::Malformed("JSON"))?;
    object.unwrap_or_default().into_header(Form::Json)
}

//! The header of an object in protobuf: `runtime.Unknown` around a message whose first field is its `ObjectMeta`.
//!
//! Tags are those of apimachinery's `runtime/generated.proto` and `meta/v1/generated.proto`. A message that comes twice
//! is merged and a plain field that comes twice counts last, as protobuf has it.

use super::{Form, Header, Owner, Undecodable, is_kept};
use crate::wire::{Broken, Field, fields};

/// Reads what follows the magic bytes.
pub(super) fn header(envelope: &[u8]) -> Result<Header, Undecodable> {
    let mut header = Header::default();
    let mut object = None;
    for field in fields(envelope) {
        let (tag, field) = field.map_err(|_| ENVELOPE)?;
        match tag {
            1 => type_meta(&mut header, field).map_err(|_| ENVELOPE)?,
            2 => object = Some(field.bytes().map_err(|_| ENVELOPE)?),
            3 if !field.bytes().map_err(|_| ENVELOPE)?.is_empty() => return Err(ENCODED),
            _ => {}
        }
    }
    let has_metadata = match object {
        Some(object) => metadata_of(&mut header, object).map_err(|_| METADATA)?,
        None => false,
    };
    if header.kind.is_empty() || !has_metadata {
        return Err(Undecodable::NotAnObject(Form::Protobuf));
    }
    Ok(header)
}

const ENVELOPE: Undecodable = Undecodable::Malformed("protobuf (its envelope)");
const ENCODED: Undecodable = Undecodable::Malformed("protobuf (a content encoding, which no API server uses)");
const METADATA: Undecodable = Undecodable::Malformed("protobuf (the object's fields or its metadata)");

fn type_meta(header: &mut Header, message: Field) -> Result<(), Broken> {
    for field in fields(message.bytes()?) {
        match field? {
            (1, text) => header.api_version = text.text()?,
            (2, text) => header.kind = text.text()?,
            _ => {}
        }
    }
    Ok(())
}

/// Reads the metadata of an object and steps over its other fields. False when it has none.
fn metadata_of(header: &mut Header, object: &[u8]) -> Result<bool, Broken> {
    let mut found = false;
    for field in fields(object) {
        if let (1, message) = field? {
            found = true;
            metadata(header, message.bytes()?)?;
        }
    }
    Ok(found)
}

fn metadata(header: &mut Header, message: &[u8]) -> Result<(), Broken> {
    for field in fields(message) {
        match field? {
            (1, text) => header.name = text.text()?,
            (3, text) => header.namespace = text.text()?,
            (5, text) => header.uid = text.text()?,
            (8, time) => header.created = seconds(time)?,
            (9, time) => {
                time.bytes()?;
                header.deleting = true;
            }
            (11, entry) => {
                let (key, value) = pair(entry)?;
                header.labels.push((lossy(key), lossy(value)));
            }
            (12, entry) => {
                let (key, value) = pair(entry)?;
                if is_kept(key) {
                    header.annotations.push((lossy(key), lossy(value)));
                }
            }
            (13, message) => header.owners.push(owner(message)?),
            (14, text) => header.finalizers.push(text.text()?),
            _ => {}
        }
    }
    Ok(())
}

/// A `Time`; the zero time is written as an empty one.
fn seconds(time: Field) -> Result<Option<i64>, Broken> {
    let mut seconds = None;
    for field in fields(time.bytes()?) {
        if let (1, number) = field? {
            seconds = Some(number.number()?.cast_signed());
        }
    }
    Ok(seconds)
}

fn pair<'a>(entry: Field<'a>) -> Result<(&'a [u8], &'a [u8]), Broken> {
    let mut pair: (&'a [u8], &'a [u8]) = (&[], &[]);
    for field in fields(entry.bytes()?) {
        match field? {
            (1, key) => pair.0 = key.bytes()?,
            (2, value) => pair.1 = value.bytes()?,
            _ => {}
        }
    }
    Ok(pair)
}

fn owner(message: Field) -> Result<Owner, Broken> {
    let mut owner = Owner::default();
    for field in fields(message.bytes()?) {
        match field? {
            (1, text) => owner.kind = text.text()?,
            (3, text) => owner.name = text.text()?,
            (4, text) => owner.uid = text.text()?,
            (5, text) => owner.api_version = text.text()?,
            (6, flag) => owner.controller = flag.number()? != 0,
            (7, flag) => owner.block_owner_deletion = flag.number()? != 0,
            _ => {}
        }
    }
    Ok(owner)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

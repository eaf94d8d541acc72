//! An object's header read through serde, from JSON as from CBOR, as forgivingly as the API server reads a custom
//! resource from etcd: a metadata field of a wrong type counts as absent, `null` as the type's zero value, a key that
//! comes twice by its last value, and keys match only exactly.

use std::fmt;
use std::marker::PhantomData;
use std::time::UNIX_EPOCH;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Form, Header, Owner, Undecodable, is_kept};

/// The parts of an object that a header is made of.
#[derive(Default)]
pub(super) struct Object {
    api_version: String,
    kind: String,
    metadata: Option<Header>,
}

impl Object {
    /// The header, if the value is an object.
    pub fn into_header(self, form: Form) -> Result<Header, Undecodable> {
        match self.metadata {
            Some(metadata) if !self.kind.is_empty() => {
                Ok(Header { api_version: self.api_version, kind: self.kind, ..metadata })
            }
            _ => Err(Undecodable::NotAnObject(form)),
        }
    }
}

/// A value read as a `T`; none when it is of another type.
pub(super) struct Loose<T>(pub Option<T>);

/// What a `T` is read from. The default is what `null` is read as.
pub(super) trait Shape: Default {
    fn text(_: &str) -> Option<Self> {
        None
    }

    fn flag(_: bool) -> Option<Self> {
        None
    }

    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Shape for String {
    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

impl Shape for bool {
    fn flag(flag: bool) -> Option<bool> {
        Some(flag)
    }
}

/// Whether there is a time.
#[derive(Default)]
struct IsSet(bool);

impl Shape for IsSet {
    fn text(text: &str) -> Option<IsSet> {
        Some(IsSet(!text.is_empty()))
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Vec<T>>, A::Error> {
        let mut all = Some(Vec::new());
        while let Some(Loose(element)) = list.next_element()? {
            all = all.zip(element).map(|(mut all, element)| {
                all.push(element);
                all
            });
        }
        Ok(all)
    }
}

/// A time, in Unix seconds; none when it cannot be read.
#[derive(Default)]
struct Seconds(Option<i64>);

impl Shape for Seconds {
    fn text(text: &str) -> Option<Seconds> {
        let since = humantime::parse_rfc3339(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Some(Seconds(since.and_then(|since| i64::try_from(since.as_secs()).ok())))
    }
}

/// A map of strings; of annotations, only those that are kept.
#[derive(Default)]
struct Pairs<const ANNOTATIONS: bool>(Vec<(String, String)>);

impl<const ANNOTATIONS: bool> Shape for Pairs<ANNOTATIONS> {
    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut pairs = Pairs::default();
        let mut well = true;
        while let Some(Key(key)) = map.next_key()? {
            if ANNOTATIONS && !is_kept(key.as_bytes()) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            match map.next_value()? {
                Loose(Some(value)) => pairs.0.push((key, value)),
                Loose(None) => well = false,
            }
        }
        Ok(well.then_some(pairs))
    }
}

/// Reads a map's values into places by their keys. False when a value is of a wrong type, which leaves its place as it
/// is.
macro_rules! fields {
    ($map:ident, $($key:literal => $place:expr),* $(,)?) => {{
        let mut well = true;
        while let Some(Key(key)) = $map.next_key()? {
            match key.as_str() {
                $($key => match $map.next_value()? {
                    Loose(Some(value)) => $place = value,
                    Loose(None) => well = false,
                },)*
                _ => {
                    $map.next_value::<IgnoredAny>()?;
                }
            }
        }
        well
    }};
}

impl Shape for Object {
    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Object>, A::Error> {
        let mut object = Object::default();
        fields!(map,
            "apiVersion" => object.api_version,
            "kind" => object.kind,
            "metadata" => object.metadata,
        );
        Ok(Some(object))
    }
}

impl<T: Shape> Shape for Option<T> {
    fn map<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Option<T>>, A::Error> {
        Ok(T::map(map)?.map(Some))
    }
}

impl Shape for Header {
    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Header>, A::Error> {
        let mut header = Header::default();
        let (mut created, mut deleting) = (Seconds(None), IsSet(false));
        let (mut labels, mut annotations) = (Pairs::<false>::default(), Pairs::<true>::default());
        fields!(map,
            "name" => header.name,
            "namespace" => header.namespace,
            "uid" => header.uid,
            "creationTimestamp" => created,
            "deletionTimestamp" => deleting,
            "labels" => labels,
            "annotations" => annotations,
            "ownerReferences" => header.owners,
            "finalizers" => header.finalizers,
        );
        Ok(Some(Header {
            created: created.0,
            deleting: deleting.0,
            labels: labels.0,
            annotations: annotations.0,
            ..header
        }))
    }
}

impl Shape for Owner {
    fn map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Owner>, A::Error> {
        let mut owner = Owner::default();
        let well = fields!(map,
            "apiVersion" => owner.api_version,
            "kind" => owner.kind,
            "name" => owner.name,
            "uid" => owner.uid,
            "controller" => owner.controller,
            "blockOwnerDeletion" => owner.block_owner_deletion,
        );
        Ok(well.then_some(owner))
    }
}

impl<'de, T: Shape> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Loose<T>, D::Error> {
        from.deserialize_any(LooseVisitor(PhantomData)).map(Loose)
    }
}

struct LooseVisitor<T>(PhantomData<T>);

impl<'de, T: Shape> Visitor<'de> for LooseVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(Some(T::default()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Option<T>, E> {
        Ok(T::flag(flag))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<T>, E> {
        Ok(T::text(text))
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Option<T>, E> {
        Ok(T::text(&String::from_utf8_lossy(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<T>, A::Error> {
        T::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::map(map)
    }
}

/// A key of a map. CBOR has keys that are no text; they match nothing.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        Ok(Key(Loose::deserialize(from)?.0.unwrap_or_default()))
    }
}

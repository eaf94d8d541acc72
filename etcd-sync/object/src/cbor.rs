//! The header of an object in CBOR: a reader of just what a header needs, in place.
//!
//! It is made for bytes of any origin. A length is never believed before the bytes are there, what is skipped is
//! skipped without recursion, and the depth is limited as in the API server. Kubernetes writes its strings as byte
//! strings and accepts text strings too (apimachinery's `cbor/internal/modes`); tags are read through.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::loose::{Loose, Object};
use super::{Form, Header, Undecodable};

/// Deepest nesting that the API server reads.
const MAX_DEPTH: usize = 10_000;

/// Reads what follows the magic bytes.
pub(super) fn header(body: &[u8]) -> Result<Header, Undecodable> {
    let mut reader = Reader { rest: body };
    let Loose(object) = Loose::<Object>::deserialize(&mut reader).map_err(|_| BROKEN)?;
    if !reader.rest.is_empty() {
        return Err(BROKEN);
    }
    object.unwrap_or_default().into_header(Form::Cbor)
}

const BROKEN: Undecodable = Undecodable::Malformed("CBOR");

/// The bytes are not CBOR that the API server reads.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken CBOR")
    }
}

impl std::error::Error for Broken {}

impl de::Error for Broken {
    fn custom<T: fmt::Display>(_: T) -> Broken {
        Broken
    }
}

/// One data item; of a container only how many items follow, `None` until a break.
enum Item<'a> {
    Number,
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, [u8]>),
    List(Option<u64>),
    Map(Option<u64>),
    Flag(bool),
    Null,
    Break,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn item(&mut self) -> Result<Item<'a>, Broken> {
        loop {
            let (major, argument) = self.head()?;
            return Ok(match (major, argument) {
                (0 | 1, Some(_)) => Item::Number,
                (2, length) => Item::Bytes(self.string(2, length)?),
                (3, length) => Item::Text(self.string(3, length)?),
                (4, count) => Item::List(count),
                (5, count) => Item::Map(count),
                // A tag: its content follows.
                (6, Some(_)) => continue,
                (SIMPLE, Some(20)) => Item::Flag(false),
                (SIMPLE, Some(21)) => Item::Flag(true),
                (SIMPLE, Some(22)) => Item::Null,
                (FLOAT, _) => Item::Number,
                (7, None) => Item::Break,
                _ => return Err(Broken),
            });
        }
    }

    /// The major type and the argument, `None` for the indefinite one. Floats get a major type of their own.
    fn head(&mut self) -> Result<(u8, Option<u64>), Broken> {
        let head = self.take(1)?[0];
        let (major, short) = (head >> 5, head & 31);
        let argument = match short {
            0..24 => Some(u64::from(short)),
            24..28 => {
                let bytes = self.take(1 << (short - 24))?;
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            31 => None,
            _ => return Err(Broken),
        };
        match (major, short) {
            (7, 0..24) => Ok((SIMPLE, argument)),
            (7, 25..28) => Ok((FLOAT, argument)),
            (7, 24) => Err(Broken),
            _ => Ok((major, argument)),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Broken)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A string of the given major type, in one piece or in chunks until a break.
    fn string(&mut self, major: u8, length: Option<u64>) -> Result<Cow<'a, [u8]>, Broken> {
        if let Some(length) = length {
            return Ok(Cow::Borrowed(self.take(usize::try_from(length).map_err(|_| Broken)?)?));
        }
        let mut whole = Vec::new();
        loop {
            match self.head()? {
                (7, None) => return Ok(Cow::Owned(whole)),
                (chunk, Some(length)) if chunk == major => {
                    whole.extend_from_slice(self.take(usize::try_from(length).map_err(|_| Broken)?)?);
                }
                _ => return Err(Broken),
            }
        }
    }

    /// Steps over one item, however deep.
    fn skip(&mut self) -> Result<(), Broken> {
        let mut open = Vec::new();
        let mut left = Some(1);
        loop {
            match &mut left {
                Some(0) => match open.pop() {
                    Some(outer) => {
                        left = outer;
                        continue;
                    }
                    None => return Ok(()),
                },
                Some(count) => *count -= 1,
                None => {}
            }
            let inner = match self.item()? {
                // The end of a container without a count; with one, or outside of all, it is misplaced.
                Item::Break if left.is_none() => {
                    left = open.pop().ok_or(Broken)?;
                    continue;
                }
                Item::Break => return Err(Broken),
                Item::List(count) => count,
                Item::Map(count) => count.map(|count| count.checked_mul(2).ok_or(Broken)).transpose()?,
                _ => continue,
            };
            if open.len() == MAX_DEPTH {
                return Err(Broken);
            }
            open.push(left);
            left = inner;
        }
    }
}

/// Major type 7 is simple values and floats.
const SIMPLE: u8 = 8;
const FLOAT: u8 = 9;

impl<'a> Deserializer<'a> for &mut Reader<'a> {
    type Error = Broken;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Broken> {
        match self.item()? {
            Item::Number => visitor.visit_u64(0),
            Item::Bytes(bytes) => visitor.visit_bytes(&bytes),
            Item::Text(text) => visitor.visit_str(str::from_utf8(&text).map_err(|_| Broken)?),
            Item::List(left) => visitor.visit_seq(Items { reader: self, left }),
            Item::Map(left) => visitor.visit_map(Items { reader: self, left }),
            Item::Flag(flag) => visitor.visit_bool(flag),
            Item::Null => visitor.visit_unit(),
            Item::Break => Err(Broken),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.skip()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// The elements of a list, or the entries of a map.
struct Items<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: Option<u64>,
}

impl Items<'_, '_> {
    fn has_next(&mut self) -> bool {
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => match self.reader.rest.split_first() {
                Some((&BREAK, rest)) => {
                    self.reader.rest = rest;
                    false
                }
                _ => true,
            },
        }
    }
}

const BREAK: u8 = 0xff;

impl<'a> SeqAccess<'a> for Items<'_, 'a> {
    type Error = Broken;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Broken> {
        if self.has_next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }
}

impl<'a> MapAccess<'a> for Items<'_, 'a> {
    type Error = Broken;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Broken> {
        if self.has_next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Broken> {
        seed.deserialize(&mut *self.reader)
    }
}

//! The YAML file of `--config`: one mapping from flags to values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::ArgsError;

/// The values of each key, as the command line would give them. An empty list is a list meant to be empty.
pub type Settings = BTreeMap<String, Vec<String>>;

/// Reads the file; whether its keys are flags is not asked yet.
pub fn read(file: &Path) -> Result<Settings, ArgsError> {
    let unreadable = |source| ArgsError::FileUnreadable { file: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let malformed = |problem: String| ArgsError::FileMalformed { file: file.to_owned(), problem };
    let settings: Option<BTreeMap<String, Values>> =
        serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    Ok(settings.unwrap_or_default().into_iter().map(|(key, Values(values))| (key, values)).collect())
}

/// A scalar or a list of scalars.
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, true, false, or a list of these")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            // No flag takes one, so it is a text that looks like it (a cluster id such as 12e45678).
            fn visit_f64<E: Error>(self, _: f64) -> Result<Values, E> {
                Err(E::custom("a value reads as a number with a fraction or an exponent: put it in quotes"))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Values, E> {
                Ok(Values(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Values, A::Error> {
                let mut all = Vec::new();
                while let Some(Values(values)) = seq.next_element()? {
                    all.extend(values);
                }
                Ok(Values(all))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

//! TSIG keys in the syntax of BIND's configuration, as `tsig-keygen` writes them:
//! `key "name" { algorithm hmac-sha256; secret "base64"; };`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::name::name;

/// Bytes of the largest file that is read: a key takes less than one percent of it.
pub const KEY_FILE_MAX: u64 = 64 << 10;

/// A key that signs updates. `Debug` shows no secret.
#[derive(Clone)]
pub struct TsigKey {
    /// Its name, as [`name`] gives it.
    pub name: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The shared secret.
    pub secret: Zeroizing<Vec<u8>>,
}

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    HmacSha256,
    /// `hmac-sha384`
    HmacSha384,
    /// `hmac-sha512`
    HmacSha512,
}

/// Why a file holds no key that can be used. No message shows a part of the file but names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Something is missing or stands in the wrong place.
    #[error(
        "line {line}: expected {expected}; the file must look as tsig-keygen writes it: \
         key \"NAME\" {{ algorithm hmac-sha256; secret \"BASE64\"; }};"
    )]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// One file, one key: else nobody knows which one is used.
    #[error("it holds more than one key: leave only the one that may change the record")]
    SeveralKeys,
    /// An algorithm that is too weak or unknown.
    #[error(
        "the algorithm {0} is not supported: make a key with hmac-sha256 (tsig-keygen -a hmac-sha256 NAME) and allow it on the server"
    )]
    Algorithm(String),
    /// The name is none.
    #[error("the key's name is no domain name")]
    Name,
    /// The secret is not base64, or empty.
    #[error("the secret is not valid base64: copy all of it again")]
    Secret,
}

impl TsigKey {
    /// Reads the one key of a file.
    pub fn parse(text: &str) -> Result<TsigKey, KeyFileError> {
        let mut tokens = Tokens { rest: text, line: 1 };
        tokens.word("the word key", |word| word == "key")?;
        let name_text = tokens.any("the key's name")?;
        tokens.word("{", |word| word == "{")?;
        let (mut algorithm, mut secret) = (None, None);
        loop {
            let field = tokens.any("algorithm, secret or }")?;
            let taken = match field {
                "algorithm" => &mut algorithm,
                "secret" => &mut secret,
                "}" => break,
                _ => return Err(tokens.expected("algorithm, secret or }")),
            };
            *taken = Some(tokens.any("a value")?);
            tokens.word(";", |word| word == ";")?;
        }
        let (Some(algorithm), Some(secret)) = (algorithm, secret) else {
            return Err(tokens.expected("both an algorithm and a secret before }"));
        };
        // The semicolon behind the last brace is often forgotten, and harmless.
        match tokens.next() {
            None | Some(";") => {}
            Some(_) => return Err(tokens.expected("; behind }")),
        }
        if tokens.next().is_some() {
            return Err(KeyFileError::SeveralKeys);
        }
        let secret = STANDARD.decode(secret).map_err(|_| KeyFileError::Secret)?;
        if secret.is_empty() {
            return Err(KeyFileError::Secret);
        }
        Ok(TsigKey {
            name: name(name_text).map_err(|_| KeyFileError::Name)?,
            algorithm: Algorithm::named(algorithm).ok_or_else(|| KeyFileError::Algorithm(shown(algorithm)))?,
            secret: Zeroizing::new(secret),
        })
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsigKey").field("name", &self.name).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Algorithm {
    /// The name, as in the file.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
        }
    }

    fn named(text: &str) -> Option<Algorithm> {
        let all = [Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512];
        all.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(text))
    }
}

/// Only what looks like an algorithm is repeated: a secret in its place must not be.
fn shown(algorithm: &str) -> String {
    let looks = algorithm.to_ascii_lowercase().starts_with("hmac-") && algorithm.len() <= 32;
    if looks { algorithm.to_owned() } else { "given".to_owned() }
}

/// Words, texts in quotes, and the signs `{`, `}`, `;`; comments of all three kinds are skipped.
struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Tokens<'a> {
    fn any(&mut self, expected: &'static str) -> Result<&'a str, KeyFileError> {
        self.next().ok_or_else(|| self.expected(expected))
    }

    fn word(&mut self, expected: &'static str, is: impl Fn(&str) -> bool) -> Result<(), KeyFileError> {
        match self.next() {
            Some(word) if is(word) => Ok(()),
            _ => Err(self.expected(expected)),
        }
    }

    fn expected(&self, expected: &'static str) -> KeyFileError {
        KeyFileError::Syntax { line: self.line, expected }
    }

    /// Takes so many bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn skip(&mut self) {
        loop {
            self.take(self.rest.len() - self.rest.trim_start().len());
            let to = |end: &str| self.rest.find(end).map_or(self.rest.len(), |at| at + end.len());
            let length = match self.rest {
                text if text.starts_with("//") || text.starts_with('#') => to("\n"),
                text if text.starts_with("/*") => to("*/"),
                _ => return,
            };
            self.take(length);
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.skip();
        let first = self.rest.chars().next()?;
        if matches!(first, '{' | '}' | ';') {
            return Some(self.take(1));
        }
        if first == '"' {
            self.take(1);
            let end = self.rest.find('"').unwrap_or(self.rest.len());
            let text = self.take(end);
            self.take(usize::from(!self.rest.is_empty()));
            return Some(text);
        }
        let ends = |char: char| char.is_whitespace() || matches!(char, '{' | '}' | ';' | '"');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        Some(self.take(end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "c2VjcmV0IHNlY3JldA==";

    #[test]
    fn as_tsig_keygen_and_people_write_it() {
        for text in [
            format!("key \"ddns-key\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n"),
            format!("/* two\nlines */ key DDNS-Key. {{ secret {SECRET}; # why\n algorithm \"HMAC-SHA256\"; }} // end"),
        ] {
            let key = TsigKey::parse(&text).unwrap();
            assert_eq!((key.name.as_str(), key.algorithm), ("ddns-key", Algorithm::HmacSha256));
            assert_eq!(key.secret.as_slice(), b"secret secret");
            assert_eq!(format!("{key:?}"), "TsigKey { name: \"ddns-key\", algorithm: HmacSha256, .. }");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let whole = format!("key k {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};");
        for (text, part) in [
            (String::new(), "line 1: expected the word key"),
            ("\n\nzone x {};".into(), "line 3: expected the word key"),
            ("key k { algorithm hmac-sha256; };".into(), "both an algorithm and a secret"),
            (whole.replace("sha256", "md5"), "hmac-md5 is not supported"),
            (whole.replace(SECRET, "c2V"), "not valid base64"),
            (whole.replace(SECRET, ""), "not valid base64"),
            (whole.replace("hmac-sha256", SECRET), "the algorithm given is not supported"),
            (format!("{whole}{whole}"), "more than one key"),
            (whole.replace("key k", "key \"a b\""), "no domain name"),
            (whole.replace("; }", " }"), "expected ;"),
            (format!("Private-key-format: v1.3\nKey: {SECRET}\n"), "expected the word key"),
        ] {
            let error = TsigKey::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains(SECRET), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".*") {
            let _ = TsigKey::parse(&text);
        }

        #[test]
        fn any_tokens_are_taken_or_refused(parts in proptest::collection::vec("key|\\{|\\}|;|\"|algorithm|secret|hmac-sha256|//|/\\*|\\*/|#|\n|ä|YQ==", 0..20)) {
            let _ = TsigKey::parse(&parts.join(" "));
            let _ = TsigKey::parse(&parts.concat());
        }

        #[test]
        fn what_is_written_is_read(secret in proptest::collection::vec(any::<u8>(), 1..80), label in "[a-z0-9]{1,20}") {
            let text = format!("key \"{label}\" {{ algorithm hmac-sha512; secret \"{}\"; }};", STANDARD.encode(&secret));
            let key = TsigKey::parse(&text).unwrap();
            prop_assert_eq!((key.name, key.algorithm, key.secret.to_vec()), (label, Algorithm::HmacSha512, secret));
        }
    }
}

//! AES as the providers `aescbc`, `aesgcm` and `kms` use it.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;

use super::Failure;
use crate::Form;

const TAG_LENGTH: usize = 16;
const BLOCK_LENGTH: usize = 16;

/// AES-GCM: nonce, ciphertext, tag. The associated data is the full etcd key.
pub(super) struct Gcm(LessSafeKey);

impl Gcm {
    /// None when the key has a length that AES does not.
    pub fn new(secret: &[u8]) -> Option<Gcm> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        Some(Gcm(LessSafeKey::new(UnboundKey::new(algorithm, secret).ok()?)))
    }

    pub fn decrypt(&self, etcd_key: &[u8], encrypted: &[u8]) -> Result<Bytes, Failure> {
        let (nonce, encrypted) = encrypted.split_first_chunk::<NONCE_LEN>().ok_or(Failure::TooShort)?;
        let (encrypted, tag) = encrypted.split_last_chunk::<TAG_LENGTH>().ok_or(Failure::TooShort)?;
        let mut plain = vec![0; encrypted.len()];
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let decrypted = self.0.open_separate_gather(nonce, Aad::from(etcd_key), encrypted, tag, &mut plain);
        decrypted.map(|()| plain.into()).map_err(|_| Failure::WrongKey)
    }
}

/// AES-CBC with PKCS#7 padding: initialization vector, blocks. Nothing authenticates it.
pub(super) struct Cbc(PaddedBlockDecryptingKey);

impl Cbc {
    /// None when the key has a length that AES does not.
    pub fn new(secret: &[u8]) -> Option<Cbc> {
        let algorithm = match secret.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            _ => return None,
        };
        PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, secret).ok()?).ok().map(Cbc)
    }

    pub fn decrypt(&self, encrypted: &[u8]) -> Result<Bytes, Failure> {
        let (iv, encrypted) = encrypted.split_first_chunk::<BLOCK_LENGTH>().ok_or(Failure::TooShort)?;
        if encrypted.is_empty() || encrypted.len() % BLOCK_LENGTH != 0 {
            return Err(Failure::TooShort);
        }
        let mut blocks = encrypted.to_vec();
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let length = self.0.decrypt(&mut blocks, context).map_err(|_| Failure::WrongKey)?.len();
        blocks.truncate(length);
        if is_stored_form(&blocks) { Ok(blocks.into()) } else { Err(Failure::WrongKey) }
    }
}

/// Whether this can be what the API server encrypted. A wrong key leaves a valid padding once in 256 times, and then random
/// bytes: once in a billion times they begin and end like JSON.
fn is_stored_form(plain: &[u8]) -> bool {
    match Form::of(plain) {
        Some(Form::Json) => {
            let inner = plain.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
            inner.is_some_and(|inner| matches!(inner.trim_ascii_start().first(), None | Some(b'"')))
        }
        form => form.is_some(),
    }
}

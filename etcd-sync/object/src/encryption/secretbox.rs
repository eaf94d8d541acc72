//! The provider `secretbox`: XSalsa20 and Poly1305. Nonce, tag, ciphertext; no associated data.

use bytes::Bytes;
use crypto_secretbox::aead::{AeadInPlace, KeyInit};
use crypto_secretbox::{Nonce, Tag, XSalsa20Poly1305};

use super::Failure;

const NONCE_LENGTH: usize = 24;
const TAG_LENGTH: usize = 16;

pub(super) struct Secretbox(XSalsa20Poly1305);

impl Secretbox {
    /// None when the key is not of 32 bytes.
    pub fn new(secret: &[u8]) -> Option<Secretbox> {
        XSalsa20Poly1305::new_from_slice(secret).ok().map(Secretbox)
    }

    pub fn decrypt(&self, encrypted: &[u8]) -> Result<Bytes, Failure> {
        let (nonce, encrypted) = encrypted.split_first_chunk::<NONCE_LENGTH>().ok_or(Failure::TooShort)?;
        let (tag, encrypted) = encrypted.split_first_chunk::<TAG_LENGTH>().ok_or(Failure::TooShort)?;
        let mut plain = encrypted.to_vec();
        let decrypted =
            self.0.decrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut plain, Tag::from_slice(tag));
        decrypted.map(|()| plain.into()).map_err(|_| Failure::WrongKey)
    }
}

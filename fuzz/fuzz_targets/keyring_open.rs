//! No value makes a keyring panic, whatever a KMS unwrapped for it.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use etcd_sync_core::object::encryption::{EncryptionConfig, Keyring};
use etcd_sync_core::object::header;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = include_str!("../../etcd-sync/core/tests/golden/encrypted/encryption.yaml");
const SEED: &[u8] = include_bytes!("../../etcd-sync/core/tests/golden/encrypted/kms.seed");

static CONFIGURED: LazyLock<EncryptionConfig> = LazyLock::new(|| EncryptionConfig::parse(CONFIG).unwrap());

fuzz_target!(|value: &[u8]| {
    let keyring = Keyring::new(&CONFIGURED).unwrap();
    let key = b"/registry/serviceaccounts/apps/default";
    if let Some(request) = keyring.kms_request(value) {
        keyring.learn(&request, SEED.to_vec().into());
    }
    match keyring.decrypt(key, &Bytes::copy_from_slice(value)) {
        Ok(plain) => drop(header(&plain)),
        Err(without_kms) => drop(without_kms.to_string()),
    }
});

//! Values encrypted by the encryptors below decrypt, with the right key only; nothing panics, nothing leaks.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{AeadInPlace, KeyInit};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEY: &[u8] = b"/registry/secrets/default/one";
const PLAIN: &[u8] = b"k8s\0 and the rest";

fn config(providers: &str) -> EncryptionConfig {
    EncryptionConfig::parse(&text(providers)).unwrap()
}

fn text(providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets, '*.apps']\n  providers:\n{providers}"
    )
}

fn keyring(providers: &str) -> Keyring {
    Keyring::new(&config(providers)).unwrap()
}

fn provider(name: &str, keys: &[(&str, &[u8])]) -> String {
    let keys = keys.iter().map(|(name, secret)| format!("{{name: '{name}', secret: {}}}", STANDARD.encode(secret)));
    format!("  - {name}: {{keys: [{}]}}\n", keys.collect::<Vec<_>>().join(", "))
}

fn encrypted(prefix: &str, parts: &[&[u8]]) -> Bytes {
    [prefix.as_bytes(), &parts.concat()].concat().into()
}

fn cbc(secret: &[u8], plain: &[u8]) -> Vec<u8> {
    let algorithm = [&AES_128, &AES_192, &AES_256][secret.len() / 8 - 2];
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, secret).unwrap()).unwrap();
    let mut blocks = plain.to_vec();
    let context = EncryptionContext::Iv128(FixedLength::from([7; 16]));
    key.less_safe_encrypt(&mut blocks, context).unwrap();
    [&[7; 16], &blocks[..]].concat()
}

fn gcm(secret: &[u8], etcd_key: &[u8], plain: &[u8]) -> Vec<u8> {
    let algorithm = [&AES_128_GCM, &AES_192_GCM, &AES_256_GCM][secret.len() / 8 - 2];
    let key = LessSafeKey::new(UnboundKey::new(algorithm, secret).unwrap());
    let mut blocks = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key([3; 12]), Aad::from(etcd_key), &mut blocks).unwrap();
    [&[3; 12], &blocks[..]].concat()
}

fn secretbox(secret: &[u8], plain: &[u8]) -> Vec<u8> {
    let cipher = crypto_secretbox::XSalsa20Poly1305::new_from_slice(secret).unwrap();
    let mut blocks = plain.to_vec();
    let tag = cipher.encrypt_in_place_detached(&[5; 24].into(), b"", &mut blocks).unwrap();
    [&[5; 24], &tag[..], &blocks].concat()
}

/// A KMS v2 value. The source "encrypted" by the KMS is `source`; what it unwraps to is the caller's business.
fn kms(name: &str, source: &[u8], kind: u8, data: &[u8]) -> Bytes {
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2][..], &length(bytes.len()), bytes].concat();
    let annotation = [field(1, b"a.example.com"), field(2, b"note")].concat();
    let parts = [field(1, data), field(2, b"kek 1"), field(3, source), field(4, &annotation), vec![5 << 3, kind]];
    encrypted(&format!("k8s:enc:kms:v2:{name}:"), &[&parts.concat()])
}

fn length(number: usize) -> Vec<u8> {
    assert!(number < 1 << 14);
    if number < 128 { vec![number as u8] } else { vec![number as u8 | 0x80, (number >> 7) as u8] }
}

const KMS: &str = "  - kms: {apiVersion: v2, name: vault, endpoint: 'unix:///run/kms.sock', timeout: 1m1.5s}\n";

/// One value per provider, all with keys of `provider`'s bytes 1.
fn one_of_each(secret: &[u8], plain: &[u8]) -> [Bytes; 3] {
    let secret32 = &[secret, secret].concat()[..32];
    [
        encrypted("k8s:enc:aescbc:v1:k:", &[&cbc(secret, plain)]),
        encrypted("k8s:enc:aesgcm:v1:k:", &[&gcm(secret, KEY, plain)]),
        encrypted("k8s:enc:secretbox:v1:k:", &[&secretbox(secret32, plain)]),
    ]
}

fn all(secret: &[u8]) -> String {
    let secret32 = &[secret, secret].concat()[..32];
    let keys = [("aescbc", secret), ("aesgcm", secret), ("secretbox", secret32)];
    "  - identity: {}\n".to_owned() + &keys.map(|(name, secret)| provider(name, &[("k", secret)])).concat() + KMS
}

fn by(provider: &str, key: &str) -> EncryptedBy {
    EncryptedBy { provider: provider.to_owned(), key: key.to_owned() }
}

proptest! {
    #[test]
    fn encrypted_values_decrypt(rest in vec(any::<u8>(), 0..100), secret in prop_oneof![vec(any::<u8>(), 16), vec(any::<u8>(), 24), vec(any::<u8>(), 32)]) {
        let plain = [b"k8s\0", &rest[..]].concat();
        let keyring = keyring(&all(&secret));
        for value in one_of_each(&secret, &plain) {
            prop_assert_eq!(keyring.decrypt(KEY, &value), Ok(plain.clone().into()));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..120), prefix in 0..6usize) {
        let prefix = ["", "k8s:enc:", "k8s:enc:aescbc:v1:k:", "k8s:enc:aesgcm:v1:k:", "k8s:enc:secretbox:v1:k:", "k8s:enc:kms:v2:vault:"][prefix];
        let value = encrypted(prefix, &[&bytes]);
        let keyring = keyring(&all(&[1; 16]));
        let _ = keyring.decrypt(KEY, &value).map_err(|why| why.to_string());
        let _ = Keyring::none().decrypt(KEY, &value);
        if let Some(request) = keyring.kms_request(&value) {
            keyring.learn(&request, vec![1; 32].into());
            prop_assert_eq!(keyring.kms_request(&value), None);
        }
        let _ = keyring.decrypt(KEY, &value);
    }

    #[test]
    fn a_damaged_value_is_not_decrypted(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let keyring = keyring(&all(&[1; 16]));
        for value in one_of_each(&[1; 16], PLAIN) {
            let mut value = value.to_vec();
            let at = at.index(value.len());
            value[at] ^= flip;
            let decrypted = keyring.decrypt(KEY, &value.clone().into());
            // Before the key's name ends, the value may be of another key or not encrypted; aescbc notices only a broken start.
            if at >= value.len() - PLAIN.len() && !value.starts_with(b"k8s:enc:aescbc") {
                prop_assert!(matches!(decrypted, Err(Undecryptable::WrongKey(_))), "{decrypted:?}");
            }
        }
    }

    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,60}", tail in "[a-z:{}\\[\\] '\n-]{0,40}") {
        let _ = EncryptionConfig::parse(&text);
        let _ = EncryptionConfig::parse(&super::tests::text(&format!("  - {tail}")));
    }
}

#[test]
fn what_is_not_encrypted_is_returned_as_it_is() {
    let plain = Bytes::from_static(PLAIN);
    assert_eq!(Keyring::none().decrypt(KEY, &plain), Ok(plain.clone()));
    assert_eq!(keyring(&all(&[1; 16])).decrypt(KEY, &plain), Ok(plain));
    assert_eq!(Keyring::encrypted_by(PLAIN), None);
}

#[test]
fn each_failure_is_told_apart() {
    let [cbc, gcm, secretbox] = one_of_each(&[1; 16], PLAIN);
    let failure = |keyring: &Keyring, value: &Bytes| keyring.decrypt(KEY, value).unwrap_err();
    assert_eq!(failure(&Keyring::none(), &cbc), Undecryptable::NoConfig(by("aescbc", "k")));
    let other = keyring(&all(&[2; 16]));
    assert_eq!(failure(&other, &cbc), Undecryptable::WrongKey(by("aescbc", "k")));
    assert_eq!(failure(&other, &gcm), Undecryptable::WrongKey(by("aesgcm", "k")));
    assert_eq!(failure(&other, &secretbox), Undecryptable::WrongKey(by("secretbox", "k")));
    let right = keyring(&all(&[1; 16]));
    assert_eq!(right.decrypt(b"/registry/secrets/default/two", &gcm), Err(Undecryptable::WrongKey(by("aesgcm", "k"))));
    let named = |name| encrypted(name, &[&[0; 64]]);
    assert_eq!(failure(&right, &named("k8s:enc:aescbc:v1:new:")), Undecryptable::UnknownKey(by("aescbc", "new")));
    assert_eq!(failure(&right, &named("k8s:enc:aescbc:v2:k:")), Undecryptable::UnknownKey(by("aescbc v2", "k")));
    assert_eq!(failure(&right, &named("k8s:enc:kms:v1:vault:")), Undecryptable::UnknownKey(by("kms v1", "vault")));
    assert_eq!(failure(&right, &named("k8s:enc:kms:v2:other:")), Undecryptable::UnknownKey(by("kms v2", "other")));
    assert_eq!(failure(&right, &named("k8s:enc:kms:v2:vault:")), Undecryptable::Malformed(by("kms v2", "vault")));
    assert!(matches!(failure(&right, &named("k8s:enc:aescbc:")), Undecryptable::Malformed(_)));
    for cut in ["aescbc", "aesgcm", "secretbox"] {
        let value = encrypted(&format!("k8s:enc:{cut}:v1:k:"), &[&[0; 16]]);
        assert_eq!(failure(&right, &value), Undecryptable::Malformed(by(cut, "k")));
    }
    assert_eq!(by("aescbc", "key1").to_string(), "aescbc key key1");
    assert_eq!(by("kms v2", "vault").to_string(), "kms v2 plugin vault");
}

#[test]
fn every_key_of_a_name_is_tried_and_a_name_may_have_a_colon() {
    let providers = ["aescbc", "aesgcm"].map(|name| {
        provider(name, &[("other", &[9; 16]), ("k", &[2; 32]), ("k", &[1; 16])])
            + "  - identity: {}\n"
            + &provider(name, &[("a:b", &[3; 16])])
    });
    let keyring = keyring(&providers.concat());
    let [cbc_value, gcm_value, _] = one_of_each(&[1; 16], PLAIN);
    assert_eq!(keyring.decrypt(KEY, &cbc_value).unwrap(), PLAIN);
    assert_eq!(keyring.decrypt(KEY, &gcm_value).unwrap(), PLAIN);
    let value = encrypted("k8s:enc:aescbc:v1:a:b:", &[&cbc(&[3; 16], PLAIN)]);
    assert_eq!(keyring.decrypt(KEY, &value).unwrap(), PLAIN);
    assert_eq!(Keyring::encrypted_by(&value), Some(by("aescbc", "a")));
}

/// One wrong key in 256 leaves a padding that is right by chance; what is below it must not pass.
#[test]
fn a_wrong_cbc_key_never_decrypts() {
    let plains: [&[u8]; 3] = [PLAIN, br#"{"kind":"A","metadata":{}}"#, b"\xd9\xd9\xf7\xa0 and some more"];
    let mut right_paddings = 0;
    for wrong in 0..3_000u16 {
        let secret = [&wrong.to_be_bytes()[..], &[1; 14]].concat();
        for plain in plains {
            let value = encrypted("k8s:enc:aescbc:v1:k:", &[&cbc(&[1; 16], plain)]);
            let decrypted = keyring(&provider("aescbc", &[("k", &secret)])).decrypt(KEY, &value);
            if wrong == 0x0101 {
                assert_eq!(decrypted.unwrap(), plain);
                right_paddings += 1;
            } else {
                assert_eq!(decrypted, Err(Undecryptable::WrongKey(by("aescbc", "k"))));
            }
        }
    }
    assert_eq!(right_paddings, 3);
}

#[test]
fn a_kms_is_asked_once_for_a_key_and_for_a_seed() {
    let keyring = keyring(KMS);
    let seed = [4; 32];
    let info = [6; 32];
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), &[&info[..], &[1]].concat());
    let with_seed = kms("vault", b"encrypted seed", 1, &[&info, &gcm(derived.as_ref(), KEY, PLAIN)[..]].concat());
    let with_key = kms("vault", b"encrypted key", 0, &gcm(&[8; 32], KEY, PLAIN));
    for (value, source, unwrapped) in [(with_seed, "encrypted seed", seed), (with_key, "encrypted key", [8; 32])] {
        let request = keyring.kms_request(&value).unwrap();
        assert_eq!((request.provider.as_str(), request.key_id.as_str()), ("vault", "kek 1"));
        assert_eq!(request.encrypted_dek_source, source);
        assert_eq!(request.annotations["a.example.com"], "note");
        assert_eq!(keyring.decrypt(KEY, &value), Err(Undecryptable::NeedsKms(request.clone())));
        keyring.learn(&request, unwrapped.to_vec().into());
        assert_eq!(keyring.kms_request(&value), None);
        assert_eq!(keyring.decrypt(KEY, &value).unwrap(), PLAIN);
        assert_eq!(keyring.decrypt(b"/other", &value), Err(Undecryptable::WrongKey(by("kms v2", "vault"))));
        keyring.learn(&request, vec![7; 5].into());
        assert_eq!(keyring.decrypt(KEY, &value), Err(Undecryptable::WrongKey(by("kms v2", "vault"))));
    }
    let broken = kms("vault", b"", 0, b"x");
    assert_eq!(keyring.decrypt(KEY, &broken), Err(Undecryptable::Malformed(by("kms v2", "vault"))));
    assert_eq!(
        keyring.decrypt(KEY, &kms("vault", b"s", 2, b"x")),
        Err(Undecryptable::Malformed(by("kms v2", "vault")))
    );
}

#[test]
fn the_oldest_data_key_is_forgotten() {
    let keyring = keyring(KMS);
    let value = |number: usize| kms("vault", &number.to_be_bytes(), 0, &gcm(&[8; 32], KEY, PLAIN));
    for number in 0..MAX_DATA_KEYS + 1 {
        keyring.learn(&keyring.kms_request(&value(number)).unwrap(), vec![8; 32].into());
    }
    assert!(keyring.kms_request(&value(0)).is_some());
    assert!(keyring.kms_request(&value(1)).is_none());
    assert_eq!(keyring.decrypt(KEY, &value(MAX_DATA_KEYS)).unwrap(), PLAIN);
}

#[test]
fn the_plugins_of_a_configuration_are_known() {
    let long = config(KMS);
    let [plugin] = long.kms_plugins() else { panic!() };
    assert_eq!((plugin.name.as_str(), plugin.socket.as_str()), ("vault", "/run/kms.sock"));
    assert_eq!(plugin.timeout, std::time::Duration::from_millis(61_500));
    let short = config("  - kms: {apiVersion: v2, name: a, endpoint: 'unix:///@abstract'}\n");
    let [plugin] = short.kms_plugins() else { panic!() };
    assert_eq!((plugin.socket.as_str(), plugin.timeout), ("@abstract", std::time::Duration::from_secs(3)));
}

#[test]
fn what_kube_apiserver_refuses_is_refused() {
    let field = |providers: &str| match EncryptionConfig::parse(&text(providers)) {
        Err(EncryptionConfigError::Field { at, problem }) => format!("{at} {problem}"),
        other => panic!("{providers}: {other:?}"),
    };
    assert_eq!(
        field("  - {}\n"),
        "resources[0].providers[0] must be exactly one of aescbc, aesgcm, secretbox, kms and identity"
    );
    assert!(
        field("  - {identity: {}, aescbc: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}}\n")
            .contains("exactly one")
    );
    assert_eq!(field("  - aescbc: {keys: []}\n"), "resources[0].providers[0].aescbc.keys is empty");
    assert!(field("  - aescbc: {keys: [{secret: AAAA}]}\n").ends_with("keys[0].name is empty"));
    assert!(field("  - aesgcm: {keys: [{name: a, secret: '*'}]}\n").ends_with("secret is not base64"));
    assert!(field("  - aesgcm: {keys: [{name: a}]}\n").ends_with("secret is not base64"));
    assert!(field("  - aesgcm: {keys: [{name: a, secret: AAAA}]}\n").ends_with("secret is not of 16, 24 or 32 bytes"));
    assert!(field("  - secretbox: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}\n").ends_with("32 bytes"));
    let kms = |fields: &str| field(&format!("  - kms: {{apiVersion: v2, {fields}}}\n"));
    assert!(kms("name: a, endpoint: /run/x").contains("kms.endpoint"));
    assert!(kms("name: a:b, endpoint: 'unix:///run/x'").contains("kms.name"));
    assert!(kms("name: a, endpoint: 'unix:///run/x', timeout: 0s").contains("kms.timeout"));
    assert!(kms("name: a, endpoint: 'unix:///run/x', timeout: 3").contains("kms.timeout"));
    assert!(kms("name: a, endpoint: 'unix:///run/x', cachesize: 1").contains("kms.cachesize"));
    assert!(field(&KMS.repeat(2)).ends_with("kms.name is the name of another provider"));
    let v1 = EncryptionConfig::parse(&text("  - kms: {name: a, endpoint: 'unix:///run/x'}\n")).unwrap_err();
    assert_eq!(v1, EncryptionConfigError::KmsV1 { at: "resources[0].providers[0].kms".to_owned() });
    assert_eq!(EncryptionConfig::parse("apiVersion: v1\nkind: Secret\n").unwrap_err(), EncryptionConfigError::Kind);
    let old = text("  - identity: {}\n").replace("apiserver.config.k8s.io/", "").replace("Configuration", "Config");
    assert!(EncryptionConfig::parse(&old).is_ok());
}

#[test]
fn no_error_and_no_debug_print_shows_a_secret() {
    let secret = STANDARD.encode([0xab; 16]);
    let right = all(&[0xab; 16]);
    let config = config(&right);
    let shown = format!("{config:?} {:?}", Keyring::new(&config).unwrap());
    assert!(shown.contains("aescbc") && !shown.contains("171") && !shown.contains(&secret), "{shown}");
    for broken in
        [right.replace("secret:", "secret: {x: "), right.replace("keys:", "key:"), right.replace("==", "= *&!")]
    {
        let error = EncryptionConfig::parse(&text(&broken)).unwrap_err();
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains(&secret[..8]), "{shown}");
    }
}

#[test]
fn plain_values_are_read_where_identity_is_a_provider() {
    let entry = |resources: &str, identity: bool| {
        let more = if identity { "  - identity: {}\n" } else { "" };
        format!(
            "- resources: [{resources}]\n  providers:\n  - secretbox: {{keys: [{{name: a, secret: \
             AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}}]}}\n{more}"
        )
    };
    let file = |entries: &[String]| {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n".to_owned();
        EncryptionConfig::parse(&(head + &entries.concat())).unwrap()
    };
    let some = file(&[entry("secrets, deployments.apps", false), entry("configmaps, '*.apps'", true)]);
    for (resource, group, expected) in [
        ("secrets", "", false),
        ("secrets", "example.com", true),
        ("configmaps", "", true),
        ("deployments", "apps", false),
        ("daemonsets", "apps", true),
        ("pods", "", true),
    ] {
        assert_eq!(some.reads_plain(resource, group), expected, "{resource}.{group}");
    }
    let all = file(&[entry("secrets", true), entry("'*.'", false), entry("'*.*'", false)]);
    assert!(
        all.reads_plain("secrets", "") && !all.reads_plain("pods", "") && !all.reads_plain("widgets", "example.com")
    );
    // Each entry of a resource adds its providers.
    assert!(file(&[entry("secrets", false), entry("secrets", true)]).reads_plain("secrets", ""));
}

//! Values that a real kube-apiserver wrote (see `golden/README.md`), as they are and damaged.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use etcd_sync_core::object::encryption::{EncryptionConfig, Keyring, Undecryptable};
use etcd_sync_core::object::{Form, Header, header};

/// The values of a folder by their etcd keys.
fn values(folder: &str) -> BTreeMap<String, Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let values = files.filter_map(|path| {
        let key = path.file_name()?.to_str()?.replace('+', "/");
        key.contains('/').then(|| (format!("/registry/{key}"), std::fs::read(path).unwrap().into()))
    });
    values.collect()
}

fn config() -> EncryptionConfig {
    EncryptionConfig::parse(include_str!("golden/encrypted/encryption.yaml")).unwrap()
}

fn keyring() -> Keyring {
    let keyring = Keyring::new(&config()).unwrap();
    for value in values("encrypted").values() {
        if let Some(request) = keyring.kms_request(value) {
            assert!(request.annotations.contains_key("mode.kms.example.com"));
            keyring.learn(&request, include_bytes!("golden/encrypted/kms.seed").to_vec().into());
        }
    }
    keyring
}

fn check(key: &str, header: &Header, form: Form) {
    let Header { api_version, kind, name, namespace, uid, .. } = header;
    assert_eq!(uid.len(), 36, "{key}");
    let identity = (form, api_version.as_str(), kind.as_str(), namespace.as_str(), name.as_str());
    let label = |key| header.label(key);
    match key.strip_prefix("/registry/").unwrap() {
        "namespaces/apps" => {
            assert_eq!(identity, (Form::Protobuf, "v1", "Namespace", "", "apps"));
            assert!(!header.deleting && header.owners.is_empty() && header.finalizers.is_empty());
            assert_eq!(label("kubernetes.io/metadata.name"), Some("apps"));
        }
        "namespaces/going" => {
            assert_eq!(identity, (Form::Protobuf, "v1", "Namespace", "", "going"));
            assert!(header.deleting);
        }
        "deployments/apps/web" => {
            assert_eq!(identity, (Form::Protobuf, "apps/v1", "Deployment", "apps", "web"));
            assert_eq!((label("app"), label("other"), header.deleting), (Some("web"), None, false));
        }
        "secrets/apps/token" => {
            assert_eq!(identity, (Form::Protobuf, "v1", "Secret", "apps", "token"));
            assert_eq!(header.annotation("kubernetes.io/service-account.name"), Some("default"));
            assert_eq!(header.annotation("kubernetes.io/service-account.uid").map(str::len), Some(36));
        }
        "configmaps/apps/map" => assert_eq!(identity, (Form::Protobuf, "v1", "ConfigMap", "apps", "map")),
        "serviceaccounts/apps/default" => {
            assert_eq!(identity, (Form::Protobuf, "v1", "ServiceAccount", "apps", "default"));
        }
        "apiextensions.k8s.io/customresourcedefinitions/widgets.example.com" => {
            // The API server stores definitions in the old version still.
            let version = "apiextensions.k8s.io/v1beta1";
            assert_eq!(identity, (Form::Json, version, "CustomResourceDefinition", "", "widgets.example.com"));
        }
        "apiregistration.k8s.io/apiservices/v1.example.com" => {
            assert_eq!(identity, (Form::Json, "apiregistration.k8s.io/v1", "APIService", "", "v1.example.com"));
            assert_eq!(label("kube-aggregator.kubernetes.io/automanaged"), Some("true"));
        }
        "example.com/widgets/apps/owned" => {
            assert_eq!(identity, (form, "example.com/v1", "Widget", "apps", "owned"));
            assert_eq!((label("color"), header.deleting), (Some("blue"), true));
            assert_eq!(header.finalizers, ["example.com/hold"]);
            assert!(header.annotations.is_empty());
            let [owner] = &header.owners[..] else { panic!("{header:?}") };
            let names = (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str(), owner.uid.len());
            assert_eq!(names, ("example.com/v1", "Widget", "owner", 36));
            assert!(!owner.controller && !owner.block_owner_deletion);
        }
        other => panic!("{other} is not checked"),
    }
}

#[test]
fn stored_objects_have_their_headers() {
    let (plain, cbor) = (values("plain"), values("cbor"));
    assert_eq!((plain.len(), cbor.len()), (7, 1));
    for (key, value) in plain.iter().chain(&cbor) {
        assert_eq!(Keyring::none().decrypt(key.as_bytes(), value).as_ref(), Ok(value));
        check(key, &header(value).unwrap(), Form::of(value).unwrap());
    }
    assert!(cbor.values().all(|value| Form::of(value) == Some(Form::Cbor)));
    assert_eq!(Form::of(&plain["/registry/example.com/widgets/apps/owned"]), Some(Form::Json));
}

#[test]
fn encrypted_objects_decrypt_with_their_own_key_at_their_own_place() {
    let seals = [
        ("configmaps/apps/map", "aesgcm key key1"),
        ("deployments/apps/web", "secretbox key box"),
        ("example.com/widgets/apps/owned", "aescbc key other"),
        ("secrets/apps/token", "aescbc key key1"),
        ("serviceaccounts/apps/default", "kms v2 plugin test"),
    ];
    let (keyring, values) = (keyring(), values("encrypted"));
    assert_eq!(values.len(), seals.len());
    for (key, seal) in seals {
        let key = format!("/registry/{key}");
        let value = &values[&key];
        let plain = keyring.decrypt(key.as_bytes(), value).unwrap();
        check(&key, &header(&plain).unwrap(), Form::of(&plain).unwrap());
        assert_eq!(Keyring::encrypted_by(value).unwrap().to_string(), seal);
        assert!(matches!(Keyring::none().decrypt(key.as_bytes(), value), Err(Undecryptable::NoConfig(_))));
        // Only two providers bind a value to its place.
        let moved = keyring.decrypt(b"/registry/elsewhere", value);
        let bound = seal.starts_with("aesgcm") || seal.starts_with("kms");
        assert_eq!(matches!(moved, Err(Undecryptable::WrongKey(_))), bound, "{seal}");
    }
    let without_kms = Keyring::new(&config()).unwrap();
    let account = "/registry/serviceaccounts/apps/default";
    assert!(matches!(without_kms.decrypt(account.as_bytes(), &values[account]), Err(Undecryptable::NeedsKms(_))));
}

/// What the fuzz targets do, for a moment: no damage to any value makes anything panic.
#[test]
fn damaged_values_never_panic() {
    let seed = std::env::var("ETCD_SYNC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("ETCD_SYNC_SEED={seed}");
    let (keyring, mut random) = (keyring(), Random(seed));
    for folder in ["plain", "cbor", "encrypted"] {
        for (key, value) in values(folder) {
            for _ in 0..2_000 {
                let damaged: Bytes = random.damage(&value).into();
                let _ = header(&damaged);
                if let Ok(plain) = keyring.decrypt(key.as_bytes(), &damaged) {
                    let _ = header(&plain);
                }
                // Damage behind the seal, too.
                if let Ok(plain) = keyring.decrypt(key.as_bytes(), &value) {
                    let _ = header(&random.damage(&plain));
                }
                let _ = keyring.kms_request(&damaged);
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// One to four changes: other bytes, cuts, repeats, and lengths that lie.
    fn damage(&mut self, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(value.len());
            match self.below(6) {
                0 => value.truncate(at),
                1 => value.insert(at, self.below(256) as u8),
                2 if !value.is_empty() => drop(value.remove(at)),
                3 => {
                    let end = at + self.below(value.len() - at);
                    let piece = value[at..end].to_vec();
                    let to = self.below(value.len());
                    value.splice(to..to, piece);
                }
                4 if !value.is_empty() => value[at] = [0x00, 0x7f, 0x80, 0x9f, 0xbf, 0xff, b'{', b'"'][self.below(8)],
                _ if !value.is_empty() => value[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        value
    }
}

/// How fast it is: `cargo test --release -p etcd-sync-core --test golden throughput -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn throughput() {
    let keyring = keyring();
    for folder in ["plain", "cbor", "encrypted"] {
        for (key, value) in values(folder) {
            let rounds = 20_000;
            let start = std::time::Instant::now();
            for _ in 0..rounds {
                let plain = keyring.decrypt(key.as_bytes(), &value).unwrap();
                std::hint::black_box(header(&plain).unwrap());
            }
            let each = start.elapsed() / rounds;
            println!("{folder} {key}: {} bytes, {each:?}, {:.0}/s", value.len(), 1.0 / each.as_secs_f64());
        }
    }
}

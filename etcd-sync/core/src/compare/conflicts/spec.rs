//! The few fields of an object beyond its header that a conflict hangs on, from protobuf and from JSON.
//!
//! Tags are those of k8s.io/api v0.36.3: `core/v1/generated.proto` and `admissionregistration/v1/generated.proto`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::object::Form;
use crate::object::wire::{Broken, Field, fields};

/// A type that is read from one field of an object.
pub(super) trait Spec: DeserializeOwned {
    /// Takes one field of the object's protobuf message; others are passed over.
    fn field(&mut self, tag: u32, field: Field<'_>) -> Result<(), Broken>;
    /// What an object without the field has.
    fn empty() -> Self;
}

/// Reads a spec from an object's plain bytes; `None` when they are broken.
pub(super) fn read<T: Spec>(plain: &[u8]) -> Option<T> {
    match Form::of(plain)? {
        Form::Protobuf => message(object(plain)?).ok(),
        Form::Json => serde_json::from_slice(plain).ok(),
        Form::Cbor => None,
    }
}

/// The object's message inside the envelope, whose field 2 it is (apimachinery's runtime.Unknown) behind four magic bytes.
fn object(plain: &[u8]) -> Option<&[u8]> {
    let mut raw = None;
    for field in fields(plain.get(4..)?) {
        if let (2, field) = field.ok()? {
            raw = Some(field.bytes().ok()?);
        }
    }
    raw
}

fn message<T: Spec>(bytes: &[u8]) -> Result<T, Broken> {
    let mut read = T::empty();
    for field in fields(bytes) {
        let (tag, field) = field?;
        read.field(tag, field)?;
    }
    Ok(read)
}

/// Declares a struct once for both forms: the tag, the name in Rust and in JSON, and how it is read.
macro_rules! spec {
    ($(#[$doc:meta])* $name:ident { $($tag:literal $json:literal $field:ident: $type:ty = $read:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        pub(super) struct $name {
            $(#[serde(default, rename = $json, deserialize_with = "or_default")]
            pub $field: $type,)*
        }

        impl Spec for $name {
            fn field(&mut self, tag: u32, field: Field<'_>) -> Result<(), Broken> {
                match tag {
                    $($tag => {
                        let read: fn(&mut $type, Field<'_>) -> Result<(), Broken> = $read;
                        read(&mut self.$field, field)
                    })*
                    _ => Ok(()),
                }
            }

            fn empty() -> Self {
                Self::default()
            }
        }
    };
}

/// `null` counts as absent, as it does for the API server.
fn or_default<'de, T: Deserialize<'de> + Default, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn text(into: &mut String, field: Field<'_>) -> Result<(), Broken> {
    *into = field.text()?;
    Ok(())
}

fn texts(into: &mut Vec<String>, field: Field<'_>) -> Result<(), Broken> {
    into.push(field.text()?);
    Ok(())
}

fn port(into: &mut i64, field: Field<'_>) -> Result<(), Broken> {
    *into = i64::try_from(field.number()?).unwrap_or_default();
    Ok(())
}

/// A message within that comes twice is merged, as protobuf has it.
fn within<T: Spec>(into: &mut T, field: Field<'_>) -> Result<(), Broken> {
    for field in fields(field.bytes()?) {
        let (tag, field) = field?;
        into.field(tag, field)?;
    }
    Ok(())
}

fn maybe<T: Spec>(into: &mut Option<T>, field: Field<'_>) -> Result<(), Broken> {
    within(into.get_or_insert_with(T::empty), field)
}

fn each<T: Spec>(into: &mut Vec<T>, field: Field<'_>) -> Result<(), Broken> {
    into.push(message(field.bytes()?)?);
    Ok(())
}

spec!(Service { 2 "spec" spec: ServiceSpec = within });
spec!(ServiceSpec {
    1 "ports" ports: Vec<ServicePort> = each,
    3 "clusterIP" cluster_ip: String = text,
    12 "healthCheckNodePort" health_check_node_port: i64 = port,
    18 "clusterIPs" cluster_ips: Vec<String> = texts,
});
spec!(ServicePort { 5 "nodePort" node_port: i64 = port });

spec!(PersistentVolume { 2 "spec" spec: PersistentVolumeSpec = within });
spec!(PersistentVolumeSpec {
    4 "claimRef" claim_ref: ClaimRef = within,
    5 "persistentVolumeReclaimPolicy" reclaim_policy: String = text,
});
spec!(ClaimRef {
    2 "namespace" namespace: String = text,
    3 "name" name: String = text,
    4 "uid" uid: String = text,
});

spec!(
    /// A ValidatingWebhookConfiguration as well as a MutatingWebhookConfiguration: the tags needed are the same.
    WebhookConfiguration { 2 "webhooks" webhooks: Vec<Webhook> = each }
);
spec!(Webhook {
    1 "name" name: String = text,
    2 "clientConfig" client_config: ClientConfig = within,
    4 "failurePolicy" failure_policy: String = text,
});
spec!(ClientConfig { 1 "service" service: Option<ServiceReference> = maybe });
spec!(ServiceReference {
    1 "namespace" namespace: String = text,
    2 "name" name: String = text,
});

/// What a CRD says about versions and their conversion. API servers store it as JSON, and as `v1beta1` to this day
/// (kubernetes/pkg/controlplane/apiserver/apiextensions.go); `v1` is read as well.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Crd {
    pub spec: CrdSpec,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CrdSpec {
    pub group: String,
    pub names: CrdNames,
    #[serde(default, deserialize_with = "or_default")]
    pub versions: Vec<CrdVersion>,
    #[serde(default, deserialize_with = "or_default")]
    pub conversion: Conversion,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CrdNames {
    pub plural: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CrdVersion {
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Conversion {
    #[serde(default, deserialize_with = "or_default")]
    pub strategy: String,
    /// `v1beta1`.
    #[serde(default, rename = "webhookClientConfig", deserialize_with = "or_default")]
    client_config: ClientConfig,
    /// `v1`.
    #[serde(default, deserialize_with = "or_default")]
    webhook: ConversionWebhook,
}

#[derive(Debug, Default, Deserialize)]
struct ConversionWebhook {
    #[serde(default, rename = "clientConfig", deserialize_with = "or_default")]
    client_config: ClientConfig,
}

impl Conversion {
    /// The Service that converts, if a webhook does.
    pub fn service(self) -> Option<ServiceReference> {
        let service = self.client_config.service.or(self.webhook.client_config.service);
        service.filter(|_| self.strategy == "Webhook")
    }
}

impl Crd {
    /// Reads a stored CRD.
    pub fn read(plain: &[u8]) -> Option<Crd> {
        serde_json::from_slice(plain).ok()
    }
}

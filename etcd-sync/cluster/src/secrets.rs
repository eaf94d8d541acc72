//! Secrets that this program makes for its own pods.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::{Cluster, Error};

/// By whom a Secret was made: another one of that name is not touched.
const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "etcd-sync-bootstrap");

/// What became of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is new.
    Created,
    /// Its content is other than before.
    Updated,
    /// It was so already.
    Unchanged,
    /// The content that is there is better.
    Kept,
    /// Another program or person made it: it stays as it is.
    Foreign,
}

/// Puts files into a Secret. One that is there already stays if `better` is true for its content.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn write(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    files: BTreeMap<String, Vec<u8>>,
    better: impl Fn(&BTreeMap<String, ByteString>) -> bool,
) -> Result<Written, Error> {
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let data: BTreeMap<String, ByteString> = files.into_iter().map(|(name, file)| (name, ByteString(file))).collect();
    let what = format!("write the Secret {namespace}/{name}");
    match cluster.ask(&what, api.get_opt(name)).await? {
        None => {
            let labels = BTreeMap::from([(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())]);
            let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
            let secret = Secret { metadata, data: Some(data), type_: Some("Opaque".into()), ..Secret::default() };
            cluster.ask(&what, api.create(&PostParams::default(), &secret)).await?;
            Ok(Written::Created)
        }
        Some(found)
            if found.metadata.labels.as_ref().and_then(|all| all.get(MADE_BY.0)).map(String::as_str)
                != Some(MADE_BY.1) =>
        {
            Ok(Written::Foreign)
        }
        Some(found) if found.data.as_ref() == Some(&data) => Ok(Written::Unchanged),
        Some(found) if found.data.as_ref().is_some_and(&better) => Ok(Written::Kept),
        Some(found) => {
            let secret = Secret { data: Some(data), ..found };
            cluster.ask(&what, api.replace(name, &PostParams::default(), &secret)).await?;
            Ok(Written::Updated)
        }
    }
}

//! Looks a name up from inside a cluster, as `kubectl exec … -- nslookup NAME` does.

use std::time::Duration;

use etcd_sync_operations::nslookup::{self, Nslookup, PodKind, PodRef};
use etcd_sync_operations::restart::Selection;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Status};
use kube::Api;
use kube::api::AttachParams;
use kube::core::Selector;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::pods::is_ready;
use crate::{Cluster, Error};

/// Longest run of nslookup: it tries every server several times.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes read of each of its outputs.
const OUTPUT_MAX: u64 = 64 << 10;

/// The container kubectl takes when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What nslookup answered in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// The pod it ran in, as `namespace/name`.
    pub pod: String,
    /// Its answer.
    #[serde(flatten)]
    pub said: Nslookup,
    /// All it printed.
    pub output: String,
}

/// Runs `nslookup NAME` in a pod.
///
/// # Errors
/// No ready pod, no right to run a command in it, no such program there, no answer.
pub async fn nslookup(cluster: &Cluster, pod: &PodRef, name: &str) -> Result<Lookup, Error> {
    let found = find(cluster, pod).await?;
    let (namespace, pod) = (pod.namespace.clone(), found.metadata.name.clone().unwrap_or_default());
    let place = format!("{namespace}/{pod}");
    let failed = |why: String| Error::Exec { cluster: cluster.name().to_owned(), pod: place.clone(), why };
    let api: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
    let mut params = AttachParams::default().stdin(false).stdout(true).stderr(true);
    params.container = container(&found);
    let run = async {
        let mut process = cluster.ask("run nslookup in a pod", api.exec(&pod, ["nslookup", name], &params)).await?;
        let status = process.take_status();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async {
            if let Some(from) = stdout { from.take(OUTPUT_MAX).read_to_end(&mut out).await.map(drop) } else { Ok(()) }
        };
        let read_too = async {
            if let Some(from) = stderr { from.take(OUTPUT_MAX).read_to_end(&mut err).await.map(drop) } else { Ok(()) }
        };
        tokio::try_join!(read, read_too).map_err(|error| failed(error.to_string()))?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok::<_, Error>((text(out) + &text(err), status))
    };
    let late = || Err(failed(format!("it did not end within {}s", TIMEOUT.as_secs())));
    let (output, status) = tokio::time::timeout(TIMEOUT, run).await.unwrap_or_else(|_| late())?;
    let said = nslookup::parse(&output);
    // It fails for a name that is not there, too, and says so.
    match status.filter(|_| said == Nslookup::default()).and_then(failure) {
        Some(why) => Err(failed(format!("{why} {}", output.trim()).trim().to_owned())),
        None => Ok(Lookup { pod: place, said, output }),
    }
}

/// A ready pod.
async fn find(cluster: &Cluster, wanted: &PodRef) -> Result<Pod, Error> {
    let PodRef { namespace, kind, name } = wanted;
    let none = || Error::NoPod { cluster: cluster.name().to_owned(), pod: wanted.to_string() };
    let (client, what) = (cluster.client(), format!("read {wanted}"));
    let selector: Option<LabelSelector> = match kind {
        PodKind::Pod => {
            let pod = cluster.ask(&what, Api::<Pod>::namespaced(client, namespace).get_opt(name)).await?;
            return pod.filter(is_ready).ok_or_else(none);
        }
        PodKind::Deployment => {
            let found = cluster.ask(&what, Api::<Deployment>::namespaced(client, namespace).get_opt(name)).await?;
            found.and_then(|found| Some(found.spec?.selector))
        }
        PodKind::StatefulSet => {
            let found = cluster.ask(&what, Api::<StatefulSet>::namespaced(client, namespace).get_opt(name)).await?;
            found.and_then(|found| Some(found.spec?.selector))
        }
        PodKind::DaemonSet => {
            let found = cluster.ask(&what, Api::<DaemonSet>::namespaced(client, namespace).get_opt(name)).await?;
            found.and_then(|found| Some(found.spec?.selector))
        }
    };
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok()).ok_or_else(none)?;
    let selection = Selection { selector: selector.to_string(), namespace: Some(namespace.clone()) };
    cluster.api_pods(&selection).await?.into_iter().find(is_ready).ok_or_else(none)
}

fn container(pod: &Pod) -> Option<String> {
    let named = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_CONTAINER).cloned());
    named.or_else(|| Some(pod.spec.as_ref()?.containers.first()?.name.clone()))
}

/// Why a command failed; `None` when it did not.
fn failure(status: Status) -> Option<String> {
    let failed = status.status.as_deref() == Some("Failure");
    failed.then(|| status.message.or(status.reason).unwrap_or_else(|| "it failed".to_owned()))
}

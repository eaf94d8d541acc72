//! What became of a plan.

use serde::Serialize;

use super::{Progress, Wait};

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartReport {
    /// In the order of the plan.
    pub clusters: Vec<ClusterReport>,
    /// How long it was waited at most, in milliseconds.
    pub limit_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What became of one cluster's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Its name.
    pub cluster: String,
    /// Pods that were deleted.
    pub deleted: u64,
    /// Pods of the plan that were gone already, or on their way.
    pub gone: u64,
    /// Pods that could not be deleted.
    pub failed: Vec<FailedPod>,
    /// Every owner of pods of the plan.
    pub owners: Vec<OwnerReport>,
    /// Why the cluster could not be asked at last, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A pod that could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// How far an owner of deleted pods got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReport {
    /// Its namespace.
    pub namespace: String,
    /// Such as `StatefulSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The selector of its pods.
    pub selector: String,
    /// Its pods of the plan.
    pub planned: u64,
    /// How many of them were ready.
    pub were_ready: u64,
    /// How far it got.
    #[serde(flatten)]
    pub progress: Progress,
}

impl OwnerReport {
    /// How far an owner got.
    pub fn new(wait: &Wait, progress: Progress) -> OwnerReport {
        OwnerReport {
            namespace: wait.namespace.clone(),
            kind: wait.owner.kind.clone(),
            name: wait.owner.name.clone(),
            selector: wait.selection.selector.clone(),
            planned: wait.pods(),
            were_ready: wait.ready,
            progress,
        }
    }
}

impl RestartReport {
    /// Whether everything of the plan was deleted and is ready again.
    pub fn is_complete(&self) -> bool {
        self.clusters.iter().all(ClusterReport::is_complete)
    }

    /// The names of the clusters in which something could not be deleted, or that could not be asked at last.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.clusters.iter().filter(|part| part.error.is_some() || !part.failed.is_empty());
        failed.map(|part| part.cluster.as_str()).collect()
    }

    /// Every owner that is not ready again, with its cluster.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &OwnerReport)> {
        let owners =
            self.clusters.iter().flat_map(|part| part.owners.iter().map(|owner| (part.cluster.as_str(), owner)));
        owners.filter(|(_, owner)| !owner.progress.is_over())
    }
}

impl ClusterReport {
    /// Whether everything of the plan was deleted and is ready again.
    pub fn is_complete(&self) -> bool {
        self.error.is_none() && self.failed.is_empty() && self.owners.iter().all(|owner| owner.progress.is_over())
    }
}

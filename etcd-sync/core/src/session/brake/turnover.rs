//! Kinds that turn over by themselves: that all their objects go within a minute, and others come, is their ordinary life.

/// Where they are stored, behind the Kubernetes prefix, and why all of their objects may go at once. Most built-in ones are in
/// scope only when the operator takes them out of the cluster-local policy.
const TURNOVER: [(&str, &str); 31] = [
    ("acme.cert-manager.io/challenges", "each lives for one proof of a domain"),
    ("acme.cert-manager.io/orders", "each lives for one certificate"),
    ("argoproj.io/analysisruns", "finished ones are collected"),
    ("argoproj.io/workflows", "finished ones are collected after their time"),
    ("argoproj.io/workflowtaskresults", "they go with their Workflow"),
    ("aquasecurity.github.io/vulnerabilityreports", "they are made again after their time"),
    ("batch.volcano.sh/jobs", "finished ones are deleted after ttlSecondsAfterFinished"),
    ("cert-manager.io/certificaterequests", "each lives for one certificate"),
    ("certificatesigningrequests", "deleted by their controller after an hour"),
    ("cilium.io/ciliumendpoints", "they go with their Pod"),
    ("controllerrevisions", "old ones go with every change of a DaemonSet or StatefulSet"),
    ("endpointslices", "they follow the Pods"),
    ("events", "they expire"),
    ("events.k8s.io/events", "they expire"),
    ("jobs", "finished ones are deleted after ttlSecondsAfterFinished, or by the history limit of their CronJob"),
    ("karpenter.sh/nodeclaims", "they follow the load"),
    ("kubeovn.io/ips", "they go with their Pod"),
    ("kueue.x-k8s.io/workloads", "they go with their Job"),
    ("leases", "they belong to whoever runs"),
    ("podcertificaterequests", "they go with their Pod"),
    ("pods", "they are made again"),
    ("replicasets", "with a history limit of 0 a new rollout deletes the old ones"),
    ("reports.kyverno.io/ephemeralreports", "each lives for seconds"),
    ("services/endpoints", "they follow the Pods"),
    ("tekton.dev/customruns", "finished ones are pruned"),
    ("tekton.dev/pipelineruns", "finished ones are pruned"),
    ("tekton.dev/taskruns", "finished ones are pruned"),
    ("velero.io/deletebackuprequests", "each lives for one deletion"),
    ("velero.io/downloadrequests", "each lives for minutes"),
    ("velero.io/serverstatusrequests", "each lives for a minute"),
    ("wgpolicyk8s.io/policyreports", "they are made again with every scan"),
];

/// Whether the resource stored there (`jobs`, `tekton.dev/pipelineruns`) turns over by itself.
pub fn turns_over(resource: &[u8]) -> bool {
    TURNOVER.iter().any(|(turning, _)| turning.as_bytes() == resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::object_key::resource_of;

    #[test]
    fn every_entry_is_a_stored_resource_with_a_reason() {
        for (resource, why) in TURNOVER {
            let key = format!("{resource}/ns/name");
            assert_eq!(resource_of(key.as_bytes()), Some(resource.as_bytes()), "{resource}");
            assert!(!why.is_empty(), "{resource}");
        }
        assert!(turns_over(b"jobs") && !turns_over(b"cronjobs") && !turns_over(b"deployments"));
    }
}

//! The kinds of conflicts, with what they do and what helps: the text that people read.

use serde::Serialize;

/// What is wrong between what the primary has and what the standby has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The same key holds another object on the standby.
    OtherUid,
    /// An object of which no owner will be on the standby.
    OwnerAbsent,
    /// An object of which some owners will be on the standby, and some not.
    OwnerReferenceAbsent,
    /// A Service's cluster IP is a local Service's.
    ClusterIp,
    /// A Service's node port is a local Service's.
    NodePort,
    /// A PersistentVolume whose claim will not be on the standby.
    VolumeClaimAbsent,
    /// A PersistentVolume whose claim is another object on the standby.
    VolumeClaimOtherUid,
    /// An admission webhook with failurePolicy Fail, whose Service is not in scope.
    WebhookFail,
    /// An admission webhook with failurePolicy Ignore, whose Service is not in scope.
    WebhookIgnore,
    /// A CRD whose conversion webhook's Service is not in scope.
    ConversionWebhook,
    /// A namespace that the primary is deleting.
    NamespaceDeleting,
    /// A CRD that the primary is deleting.
    CrdDeleting,
    /// Values of a built-in resource in a version that the standby may not know.
    StorageVersion,
    /// Custom resources in a version that their CRD does not name.
    CustomVersion,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Kind; 14] = [
        Kind::OtherUid,
        Kind::OwnerAbsent,
        Kind::OwnerReferenceAbsent,
        Kind::ClusterIp,
        Kind::NodePort,
        Kind::VolumeClaimAbsent,
        Kind::VolumeClaimOtherUid,
        Kind::WebhookFail,
        Kind::WebhookIgnore,
        Kind::ConversionWebhook,
        Kind::NamespaceDeleting,
        Kind::CrdDeleting,
        Kind::StorageVersion,
        Kind::CustomVersion,
    ];

    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OtherUid => "another object under the same key",
            Kind::OwnerAbsent => "none of its owners will be there",
            Kind::OwnerReferenceAbsent => "some of its owners will not be there",
            Kind::ClusterIp => "the cluster IP is a local Service's",
            Kind::NodePort => "the node port is a local Service's",
            Kind::VolumeClaimAbsent => "the volume's claim will not be there",
            Kind::VolumeClaimOtherUid => "the volume's claim is another object",
            Kind::WebhookFail => "the webhook's Service is not synchronized, failurePolicy Fail",
            Kind::WebhookIgnore => "the webhook's Service is not synchronized, failurePolicy Ignore",
            Kind::ConversionWebhook => "the conversion webhook's Service is not synchronized",
            Kind::NamespaceDeleting => "the primary is deleting the namespace",
            Kind::CrdDeleting => "the primary is deleting the definition",
            Kind::StorageVersion => "stored in a version that the standby may not read",
            Kind::CustomVersion => "stored in a version that its definition does not name",
        }
    }

    /// What happens on the standby, in one sentence.
    pub fn will_happen(self) -> &'static str {
        match self {
            Kind::OtherUid => {
                "The standby's object is replaced in place; what was made on the standby for the old one lives on until \
                 kube-controller-manager restarts there, and is deleted then."
            }
            Kind::OwnerAbsent => {
                "The standby's garbage collector (for a token Secret: its token controller) deletes the copy, as none of its \
                 owners is there."
            }
            Kind::OwnerReferenceAbsent => {
                "The standby's garbage collector takes the absent owners out of the copy, which differs from then on."
            }
            Kind::ClusterIp => {
                "Two Services of the standby have one address; which of them answers there is left to chance."
            }
            Kind::NodePort => {
                "Two Services of the standby have one port on every node; one of them does not answer there."
            }
            Kind::VolumeClaimAbsent => {
                "The standby's volume controller finds no claim and releases the volume; with reclaim policy Delete the real \
                 volume is destroyed, also for the primary where both use the same storage."
            }
            Kind::VolumeClaimOtherUid => {
                "As long as the standby's claim is not the one that the volume names, its volume controller releases the \
                 volume; with reclaim policy Delete the real volume is destroyed."
            }
            Kind::WebhookFail => {
                "The standby's API server calls a Service that is not synchronized. Where it does not answer, or not with a \
                 certificate of the primary's CA, every write that the webhook is for is refused, after a failover too."
            }
            Kind::WebhookIgnore => {
                "The standby's API server calls a Service that is not synchronized. Where it does not answer, writes wait for \
                 its time-out and go through unchecked."
            }
            Kind::ConversionWebhook => {
                "The standby's API server calls a Service that is not synchronized to convert objects. Where it does not \
                 answer, they can be read and written in the stored version only, and not listed in others."
            }
            Kind::NamespaceDeleting => {
                "The standby deletes everything in its copy of the namespace five seconds after it arrives."
            }
            Kind::CrdDeleting => "The standby deletes all custom resources of the copy of the definition.",
            Kind::StorageVersion => {
                "An API server that cannot decode one value stops serving the whole resource; this version was not found \
                 among those that the standby's API server is known to read."
            }
            Kind::CustomVersion => {
                "The API server cannot convert such an object, and lists of the whole resource fail, as on the primary."
            }
        }
    }

    /// What helps, in one sentence.
    pub fn what_to_do(self) -> &'static str {
        match self {
            Kind::OtherUid => {
                "Nothing, if the named dependents may be deleted. Otherwise save them first, or exclude the key with --exclude-key."
            }
            Kind::OwnerAbsent => {
                "Exclude the object with --exclude-key, or bring its owner into the scope; where the primary lacks the owner \
                 too, its own garbage collector is about to delete the object."
            }
            Kind::OwnerReferenceAbsent => "Nothing, or bring the absent owner into the scope.",
            Kind::ClusterIp => {
                "Create the local Service again with another address, or give the clusters' local Services a range of their own."
            }
            Kind::NodePort => "Give one of the two Services another node port.",
            Kind::VolumeClaimAbsent => {
                "Set persistentVolumeReclaimPolicy to Retain on the primary, or exclude the volume with --exclude-key, before \
                 the first sync."
            }
            Kind::VolumeClaimOtherUid => {
                "Set persistentVolumeReclaimPolicy to Retain on the primary before the first sync, or delete the standby's claim."
            }
            Kind::WebhookFail => {
                "Install the same service on the standby with the same CA, or exclude the configuration with --exclude-key."
            }
            Kind::WebhookIgnore => {
                "Install the same service on the standby with the same CA, or exclude the configuration with --exclude-key."
            }
            Kind::ConversionWebhook => "Install the same service on the standby with the same CA.",
            Kind::NamespaceDeleting | Kind::CrdDeleting => {
                "Wait until the primary has deleted it, or find out which finalizer blocks the deletion there."
            }
            Kind::StorageVersion => {
                "Bring the standby's API server to the primary's version, or migrate the stored objects on the primary first."
            }
            Kind::CustomVersion => "Have the primary store these objects again in a version that the definition names.",
        }
    }
}

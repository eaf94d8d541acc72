//! The platform's machines: one that is not running must be seen before a failover.

use kube::Api;
use kube::api::DynamicObject;
use kube::discovery::ApiGroup;
use kube::error::DiscoveryError;

use crate::{Cluster, Error, next, page};

/// Where the platform keeps them.
const GROUP: &str = "platform.tkestack.io";
const PLURAL: &str = "machines";

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// Its name; with `namespace/` in front where it has one.
    pub name: String,
    /// `.status.phase`; empty when it has none yet.
    pub phase: String,
}

impl Machine {
    /// Whether it is as it should be.
    pub fn is_running(&self) -> bool {
        self.phase == "Running"
    }
}

/// Every machine of a cluster; `None` where there is no such resource.
///
/// # Errors
/// No answer, or no right to list them.
pub async fn machines(cluster: &Cluster) -> Result<Option<Vec<Machine>>, Error> {
    let Some(group) = group(cluster).await? else { return Ok(None) };
    let Some((resource, _)) = group.recommended_resources().into_iter().find(|(resource, _)| resource.plural == PLURAL)
    else {
        return Ok(None);
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let (mut machines, mut token) = (Vec::new(), None);
    loop {
        let params = page(token);
        let mut list = match cluster.ask("list machines.platform.tkestack.io", api.list(&params)).await {
            // Its definition went in between.
            Err(error) if error.status() == Some(404) => return Ok(None),
            list => list?,
        };
        machines.extend(list.items.into_iter().map(machine));
        token = next(list.metadata.continue_.take());
        if token.is_none() {
            return Ok(Some(machines));
        }
    }
}

async fn group(cluster: &Cluster) -> Result<Option<ApiGroup>, Error> {
    let client = cluster.client();
    let found = async {
        match kube::discovery::group(&client, GROUP).await {
            Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_) | DiscoveryError::EmptyApiGroup(_))) => {
                Ok(None)
            }
            found => found.map(Some),
        }
    };
    cluster.ask("read what the API server serves", found).await
}

fn machine(object: DynamicObject) -> Machine {
    let name = object.metadata.name.unwrap_or_default();
    let name = match object.metadata.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    let phase = object.data.pointer("/status/phase").and_then(|phase| phase.as_str()).unwrap_or_default();
    Machine { name, phase: phase.to_owned() }
}

//! What grows with a cluster's use: namespaces of teams, and families of owners with their dependents.

use serde_json::json;

use super::fixed::{self, item};
use super::object::{Object, size};
use super::{Item, Random};

/// Makes families without end; names carry a counter, so that no key comes twice.
pub(super) struct Families {
    names: Vec<String>,
    namespaces: Vec<Item>,
    made: usize,
}

impl Families {
    /// One namespace for about 500 keys.
    pub fn new(random: &mut Random, total: usize) -> Self {
        let names: Vec<String> = (0..4 + total / 500).map(|i| format!("team-{i:03}")).collect();
        let namespaces = names.iter().flat_map(|name| fixed::namespace(random, name)).collect();
        Families { names, namespaces, made: 0 }
    }

    /// The namespaces themselves, with what their controllers put into them.
    pub fn namespaces(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.namespaces)
    }

    /// The next family, owners first. The first few are one of each kind.
    pub fn next(&mut self, random: &mut Random) -> Vec<Item> {
        let kind = if self.made < 8 { self.made } else { random.range(0..16) };
        let namespace = random.pick(&self.names).clone();
        let mut family = Family { namespace, number: self.made, items: Vec::new(), random };
        self.made += 1;
        match kind {
            0 | 8..=11 => family.workload(),
            1 => family.job(),
            2 => family.machines(),
            3 | 12 => family.application(),
            4 => family.volume(),
            5 => family.roles(),
            6 | 13 | 14 => family.settings(),
            _ => family.events(),
        }
        family.items
    }
}

/// One family under construction.
struct Family<'a> {
    namespace: String,
    number: usize,
    items: Vec<Item>,
    random: &'a mut Random,
}

impl Family<'_> {
    /// An object in the family's namespace.
    fn object(&mut self, api_version: &str, kind: &str, name: &str) -> Object {
        Object::new(self.random, api_version, kind, &self.namespace, name)
    }

    /// Stores a namespaced built-in.
    fn put(&mut self, resource: &str, object: &Object) {
        let bytes = size(self.random);
        self.put_sized(resource, object, bytes);
    }

    fn put_sized(&mut self, resource: &str, object: &Object, bytes: usize) {
        let value = object.protobuf(self.random, bytes);
        let place = if object.namespace.is_empty() { String::new() } else { format!("{}/", object.namespace) };
        self.items.push(item(format!("{resource}/{place}{}", object.name), value));
    }

    fn workload(&mut self) {
        let name = format!("web-{}", self.number);
        for (resource, kind) in
            [("serviceaccounts", "ServiceAccount"), ("configmaps", "ConfigMap"), ("secrets", "Secret")]
        {
            let object = self.object("v1", kind, &name);
            self.put(resource, &object);
        }
        let service = self.object("v1", "Service", &name);
        self.put_sized("services/specs", &service, 400);
        let endpoints = self.object("v1", "Endpoints", &name);
        self.put_sized("services/endpoints", &endpoints, 200);
        let slice_name = format!("{name}-{}", self.random.suffix(5));
        let slice = self.object("discovery.k8s.io/v1", "EndpointSlice", &slice_name).owned_by(&service);
        self.put_sized("endpointslices", &slice, 300);

        let deployment = self.object("apps/v1", "Deployment", &name);
        let bytes = self.random.range(1200..5000);
        self.put_sized("deployments", &deployment, bytes);
        let set_name = format!("{name}-{}", self.random.suffix(9));
        let set = self.object("apps/v1", "ReplicaSet", &set_name).owned_by(&deployment);
        self.put_sized("replicasets", &set, bytes);
        for i in 0..self.random.range(1..4) {
            let pod_name = format!("{set_name}-{}{i}", self.random.suffix(4));
            let pod = self.object("v1", "Pod", &pod_name).owned_by(&set);
            self.put_sized("pods", &pod, bytes + 2000);
        }
    }

    fn job(&mut self) {
        let name = format!("backup-{}", self.number);
        let cron = self.object("batch/v1", "CronJob", &name);
        self.put("cronjobs", &cron);
        for run in 0..self.random.range(1..4) {
            let job = self.object("batch/v1", "Job", &format!("{name}-{run}")).owned_by(&cron);
            self.put("jobs", &job);
            let pod_name = format!("{name}-{run}-{}", self.random.suffix(5));
            let pod = self.object("v1", "Pod", &pod_name).owned_by(&job);
            self.put_sized("pods", &pod, 3000);
        }
    }

    /// A workload cluster and its machines, cluster-scoped custom resources: the ones a lost owner is worst for.
    fn machines(&mut self) {
        const VERSION: &str = "platform.tkestack.io/v1";
        let name = format!("cls-{}", self.number);
        let cluster = Object::new(self.random, VERSION, "Cluster", "", &name);
        let value = cluster.json(self.random, json!({ "type": "Baremetal", "version": "1.34.2" }), 2500);
        self.items.push(item(format!("platform.tkestack.io/clusters/{name}"), value));
        for i in 0..self.random.range(3..8) {
            let name = format!("{name}-m{i}");
            let machine = Object::new(self.random, VERSION, "Machine", "", &name).owned_by(&cluster);
            let spec = json!({ "clusterName": cluster.name, "ip": format!("10.0.{}.{i}", self.number % 250) });
            let bytes = self.random.range(300..1500);
            let value = machine.json(self.random, spec, bytes);
            self.items.push(item(format!("platform.tkestack.io/machines/{name}"), value));
        }
    }

    /// A namespaced custom resource that owns another one and a ConfigMap.
    fn application(&mut self) {
        let name = format!("shop-{}", self.number);
        let namespace = self.namespace.clone();
        let application = self.object("app.alauda.io/v1beta1", "Application", &name);
        let bytes = size(self.random);
        let value = application.json(self.random, json!({ "displayName": name }), bytes);
        self.items.push(item(format!("app.alauda.io/applications/{namespace}/{name}"), value));
        let release = self.object("app.alauda.io/v1beta1", "HelmRelease", &name).owned_by(&application);
        let bytes = size(self.random);
        let value = release.json(self.random, json!({ "chart": "shop", "version": "1.2.3" }), bytes);
        self.items.push(item(format!("app.alauda.io/helmreleases/{namespace}/{name}"), value));
        let values = self.object("v1", "ConfigMap", &format!("{name}-values")).owned_by(&release);
        self.put("configmaps", &values);
    }

    fn volume(&mut self) {
        let claim = self.object("v1", "PersistentVolumeClaim", &format!("data-{}", self.number));
        self.put_sized("persistentvolumeclaims", &claim, 500);
        let volume = Object::new(self.random, "v1", "PersistentVolume", "", &format!("pvc-{}", claim.uid));
        self.put_sized("persistentvolumes", &volume, 700);
    }

    fn roles(&mut self) {
        const VERSION: &str = "rbac.authorization.k8s.io/v1";
        let name = format!("editor-{}", self.number);
        for (resource, kind) in [("roles", "Role"), ("rolebindings", "RoleBinding")] {
            let object = self.object(VERSION, kind, &name);
            self.put_sized(resource, &object, 250);
        }
        let role = Object::new(self.random, VERSION, "ClusterRole", "", &format!("team:{name}"));
        self.put_sized("clusterroles", &role, 400);
    }

    fn settings(&mut self) {
        for i in 0..self.random.range(2..9) {
            let (resource, kind) = *self.random.pick(&[("configmaps", "ConfigMap"), ("secrets", "Secret")]);
            let object = self.object("v1", kind, &format!("settings-{}-{i}", self.number));
            self.put(resource, &object);
        }
    }

    fn events(&mut self) {
        for _ in 0..self.random.range(1..5) {
            let name = format!("web-{}.{:016x}", self.number, self.random.bits());
            let event = self.object("v1", "Event", &name);
            self.put_sized("events", &event, 500);
        }
    }
}

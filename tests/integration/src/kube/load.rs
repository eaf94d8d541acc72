//! Random load on an API server: create, scale, patch and delete over more than twenty kinds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::api::{Api, collection, path};
use super::objects::{GROUP, config_map, custom, namespace, owned_by, secret};
use crate::data::Random;

/// Live objects at which deletions get the upper hand.
const CROWD: usize = 400;
/// Kinds of namespaced objects: group and version, kind, and what a random one looks like beside its metadata.
const NAMESPACED: usize = 20;
/// Namespaces in use at once.
const NAMESPACES: usize = 3;

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Changes by verb, those that were refused (gone already, in conflict) apart.
    pub by_verb: BTreeMap<&'static str, usize>,
    /// Kinds created.
    pub kinds: BTreeMap<String, usize>,
}

/// A load with its choices. The objects it made may be deleted by their controllers: it never minds.
#[derive(Debug)]
pub struct Load<'a> {
    api: &'a Api,
    random: Random,
    namespaces: Vec<String>,
    live: Vec<Value>,
    serial: usize,
    done: Done,
}

impl<'a> Load<'a> {
    /// A load with this seed. The CRDs of the families must be there.
    pub fn new(api: &'a Api, seed: u64) -> Load<'a> {
        let random = Random::new(seed);
        Load { api, random, namespaces: Vec::new(), live: Vec::new(), serial: 0, done: Done::default() }
    }

    /// Changes things for this long, one at a time, at most `per_second`.
    pub async fn run(mut self, time: Duration, per_second: f64) -> Result<Done> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while begun.elapsed() < time {
            ticks.tick().await;
            self.step().await?;
        }
        Ok(self.done)
    }

    async fn step(&mut self) -> Result<()> {
        if self.namespaces.len() < NAMESPACES {
            return self.begin_namespace().await;
        }
        let crowded = self.live.len() > CROWD;
        match self.random.range(0..100) {
            _ if self.live.is_empty() => self.create().await,
            0 if self.random.one_in(4) => self.end_namespace().await,
            0..35 if !crowded => self.create().await,
            0..60 => self.patch().await,
            60..75 => self.scale().await,
            _ => self.delete().await,
        }
    }

    async fn begin_namespace(&mut self) -> Result<()> {
        self.serial += 1;
        let name = format!("load-{}", self.serial);
        self.api.create(&namespace(&name)).await?;
        self.count("create", "Namespace");
        self.namespaces.push(name);
        Ok(())
    }

    async fn end_namespace(&mut self) -> Result<()> {
        let name = self.namespaces.swap_remove(self.random.range(0..self.namespaces.len()));
        self.live.retain(|object| object["metadata"]["namespace"] != name.as_str());
        self.change("delete", "DELETE", &path(&namespace(&name))?, None).await.map(drop)
    }

    async fn create(&mut self) -> Result<()> {
        self.serial += 1;
        let object = self.random_object();
        let place = collection(&object)?;
        if let Some(made) = self.change("create", "POST", &place, Some(&object)).await? {
            self.count("create", made["kind"].as_str().unwrap_or_default());
            self.live.push(made);
        }
        Ok(())
    }

    async fn patch(&mut self) -> Result<()> {
        let object = self.random.pick(&self.live).clone();
        // Not the template of a workload: each side's controllers would make objects of their own for every template
        // that they see, and only the primary's never sees one that is replaced at once.
        let mut patch = json!({"metadata": {"labels": {"round": format!("r{}", self.serial)}}});
        if object["kind"] == "ConfigMap" {
            let bytes = self.random.range(1..4000);
            patch["data"] = json!({"text": self.random.text(bytes)});
        }
        self.serial += 1;
        self.change("patch", "PATCH", &path(&object)?, Some(&patch)).await.map(drop)
    }

    async fn scale(&mut self) -> Result<()> {
        let scalable: Vec<&Value> = self.live.iter().filter(|object| object["spec"]["replicas"].is_u64()).collect();
        if scalable.is_empty() {
            return Ok(());
        }
        let place = path(self.random.pick::<&Value>(&scalable))?;
        let replicas = self.random.range(0..4);
        self.change("scale", "PATCH", &place, Some(&json!({"spec": {"replicas": replicas}}))).await.map(drop)
    }

    async fn delete(&mut self) -> Result<()> {
        let object = self.live.swap_remove(self.random.range(0..self.live.len()));
        let policy = self.random.pick(&["Background", "Background", "Foreground"]);
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        self.change("delete", "DELETE", &path(&object)?, Some(&options)).await.map(drop)
    }

    /// Sends a change; `None` when it was refused, as happens to whoever changes what others change too.
    async fn change(
        &mut self,
        verb: &'static str,
        method: &str,
        place: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>> {
        let answer = self.api.request(method, place, body).await?;
        match answer.status {
            200..300 => {
                *self.done.by_verb.entry(verb).or_default() += 1;
                answer.json().map(Some)
            }
            // Gone, in conflict, in a namespace that ends, or too much for a busy machine.
            403 | 404 | 409 | 500 | 503 | 504 => {
                *self.done.by_verb.entry("refused").or_default() += 1;
                Ok(None)
            }
            status => bail!("{method} {place}: {status} {}", answer.text()),
        }
    }

    fn count(&mut self, verb: &'static str, kind: &str) {
        if verb == "create" {
            *self.done.kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }

    fn random_object(&mut self) -> Value {
        let namespace = self.random.pick(&self.namespaces).clone();
        let name = format!("{}-{}", self.random.suffix(2), self.serial);
        let owners: Vec<Value> = self.random_owner(&namespace).into_iter().collect();
        match self.random.range(0..NAMESPACED + 5) {
            0 => config_map(&namespace, &name, &owners),
            1 => secret(&namespace, &name, &owners),
            2 => custom("Widget", &namespace, &name, &owners),
            3 => custom("Apple", &namespace, &name, &owners),
            kind @ 4..NAMESPACED => {
                let (version, kind, body) = namespaced(kind, &name);
                let metadata = json!({"name": name, "namespace": namespace, "ownerReferences": owners});
                merge(json!({"apiVersion": version, "kind": kind, "metadata": metadata}), body)
            }
            kind => {
                let (version, kind, body) = cluster_wide(kind - NAMESPACED, &name);
                merge(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}}), body)
            }
        }
    }

    /// One of three new objects belongs to another one.
    fn random_owner(&mut self, namespace: &str) -> Option<Value> {
        let near = |object: &&Value| object["metadata"]["namespace"] == namespace;
        let owners: Vec<&Value> = self.live.iter().filter(near).collect();
        (!owners.is_empty() && self.random.one_in(3)).then(|| owned_by(self.random.pick::<&Value>(&owners)))
    }
}

fn namespaced(kind: usize, name: &str) -> (&'static str, &'static str, Value) {
    let labels = json!({"app": name});
    let selector = json!({"matchLabels": labels});
    let template = |restart: &str| {
        let container = json!({"name": "main", "image": "registry.example.com/app:1"});
        json!({"metadata": {"labels": labels}, "spec": {"containers": [container], "restartPolicy": restart}})
    };
    let replicated = json!({"replicas": 1, "selector": selector, "template": template("Always")});
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    let spec = |spec: Value| json!({"spec": spec});
    match kind {
        4 => ("v1", "ServiceAccount", json!({})),
        5 => ("v1", "Service", spec(json!({"selector": labels, "ports": [{"port": 80}]}))),
        6 => (
            "v1",
            "PersistentVolumeClaim",
            spec(json!({
                "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}},
            })),
        ),
        7 => ("v1", "ResourceQuota", spec(json!({"hard": {"services.nodeports": "10"}}))),
        8 => ("v1", "LimitRange", spec(json!({"limits": [{"type": "Pod", "max": {"cpu": "64"}}]}))),
        9 => ("v1", "PodTemplate", json!({"template": template("Always")})),
        10 => ("apps/v1", "Deployment", spec(replicated)),
        11 => ("apps/v1", "ReplicaSet", spec(replicated)),
        12 => ("apps/v1", "StatefulSet", spec(merge(replicated, json!({"serviceName": name})))),
        13 => ("apps/v1", "DaemonSet", spec(json!({"selector": selector, "template": template("Always")}))),
        14 => ("batch/v1", "Job", spec(json!({"template": template("Never")}))),
        15 => {
            let job = json!({"spec": {"template": template("Never")}});
            ("batch/v1", "CronJob", spec(json!({"schedule": "*/2 * * * *", "suspend": true, "jobTemplate": job})))
        }
        16 => ("networking.k8s.io/v1", "NetworkPolicy", spec(json!({"podSelector": selector}))),
        17 => ("policy/v1", "PodDisruptionBudget", spec(json!({"minAvailable": 1, "selector": selector}))),
        18 => ("rbac.authorization.k8s.io/v1", "Role", json!({"rules": [rule]})),
        _ => (
            "networking.k8s.io/v1",
            "Ingress",
            spec(json!({
                "defaultBackend": {"service": {"name": name, "port": {"number": 80}}},
            })),
        ),
    }
}

fn cluster_wide(kind: usize, name: &str) -> (&'static str, &'static str, Value) {
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    match kind {
        0 => ("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"rules": [rule]})),
        1 => ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", json!({"roleRef": role})),
        2 => ("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 5})),
        3 => ("storage.k8s.io/v1", "StorageClass", json!({"provisioner": format!("{name}.{GROUP}")})),
        _ => (
            "v1",
            "PersistentVolume",
            json!({"spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
                "storageClassName": "manual",
            }}),
        ),
    }
}

fn merge(mut one: Value, other: Value) -> Value {
    for (field, value) in other.as_object().into_iter().flatten() {
        one[field] = value.clone();
    }
    one
}

impl Done {
    /// Fails unless the load reached the kinds and the changes that it is meant to.
    pub fn expect(&self, kinds: usize, changes: usize) -> Result<()> {
        ensure!(self.kinds.len() >= kinds, "only {} kinds were created: {:?}", self.kinds.len(), self.kinds);
        let refused = self.by_verb.get("refused").copied().unwrap_or_default();
        let all: usize = self.by_verb.values().sum();
        let made = all.checked_sub(refused).context("refusals are counted")?;
        ensure!(made >= changes, "only {made} changes: {:?}", self.by_verb);
        Ok(())
    }
}

//! Plan and outcome for people.

use super::{
    ClusterPlan, ClusterReport, Left, OwnerReport, PlannedPod, Progress, RestartPlan, RestartReport, ServicePlan,
};
use crate::text::{WIDTH, count, span, wrap};

impl RestartPlan {
    /// The plan for people.
    pub fn text(&self) -> String {
        let mut text = match self.count() {
            0 => "No pod is to be restarted.\n".to_owned(),
            pods => {
                let owners = self.waits().len() as u64;
                let what = format!(
                    "{} of {} to be deleted, so that new ones start:",
                    count(pods, "pod"),
                    count(owners, "owner")
                );
                wrap(&what, "", "")
            }
        };
        self.clusters.iter().for_each(|cluster| cluster.write(&mut text));
        text
    }
}

impl ClusterPlan {
    fn write(&self, text: &mut String) {
        text.push('\n');
        if let Some(error) = &self.error {
            text.push_str(&wrap(&format!("NOT PLANNED in {}: {error}", self.cluster), "", "  "));
            return;
        }
        self.table(text);
        for ServicePlan { selection, pods, left } in &self.services {
            if pods.is_empty() && left.is_empty() {
                let what = format!("Skipped: no pod has {} in {}.", selection.selector, self.cluster);
                text.push_str(&wrap(&what, "", "  "));
            }
            for pod in left {
                let what = format!(
                    "{}: {}/{} in {} stays: {}.",
                    pod.reason.word(),
                    pod.namespace,
                    pod.name,
                    self.cluster,
                    pod.reason.text()
                );
                text.push_str(&wrap(&what, "", "  "));
            }
        }
    }

    fn table(&self, text: &mut String) {
        let pods: Vec<&PlannedPod> = self.services.iter().flat_map(|service| &service.pods).collect();
        if pods.is_empty() {
            return;
        }
        let head = ["CLUSTER", "NAMESPACE", "POD", OWNER].map(str::to_owned);
        let row = |pod: &PlannedPod| {
            let owner = format!("{}/{}", pod.owner.kind, pod.owner.name);
            let note = if pod.ready { "" } else { " (not ready)" };
            [self.cluster.clone(), pod.namespace.clone(), pod.name.clone(), format!("{owner}{note}")]
        };
        rows(text, std::iter::once(head).chain(pods.into_iter().map(row)).collect());
    }
}

/// The head of the last column.
const OWNER: &str = "OWNER";

/// A table whose last column goes below where a line would be too long.
fn rows(text: &mut String, rows: Vec<[String; 4]>) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [a, b, c] = [0, 1, 2].map(width);
    let last = a + b + c + 6;
    let fits = last + width(3) <= WIDTH;
    let below = |owner: &str| if owner == OWNER { String::new() } else { format!("{:a$}    {owner}\n", "") };
    for [cluster, namespace, pod, owner] in rows {
        if fits {
            text.push_str(&format!("{cluster:a$}  {namespace:b$}  {pod:c$}  {owner}\n"));
        } else {
            let head = if owner == OWNER { ", its owner below" } else { "" };
            text.push_str(&format!("{cluster:a$}  {namespace:b$}  {pod}{head}\n{}", below(&owner)));
        }
    }
}

impl Left {
    /// How grave it is.
    fn word(self) -> &'static str {
        if self.needs_a_hand() { "Warning" } else { "Left alone" }
    }

    /// The reason for people.
    pub fn text(self) -> &'static str {
        match self {
            Left::NoOwner => {
                "no controller owns it, so nobody would bring it back; delete it by hand if you can make it anew"
            }
            Left::Static => {
                "its kubelet runs it from a file, and a deletion here restarts nothing; restart it on its node"
            }
            Left::Job => "its Job would count it as failed; restart the Job by hand if it is needed",
            Left::Ended => "it has ended",
            Left::Deleting => "it is being deleted already",
            Left::PlannedAbove => "it is planned with another label",
        }
    }
}

impl RestartReport {
    /// The outcome for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.clusters.iter().for_each(|part| part.write(&mut text, self.limit_ms));
        if self.is_complete() && self.clusters.iter().any(|part| !part.owners.is_empty()) {
            text.push_str(&format!("Everything that was deleted is ready again after {}.\n", span(self.took_ms)));
        }
        text
    }
}

impl ClusterReport {
    fn write(&self, text: &mut String, limit_ms: u64) {
        let name = &self.cluster;
        if self.owners.is_empty() && self.failed.is_empty() && self.error.is_none() {
            return;
        }
        let mut deeds = format!("{name}: {} deleted", count(self.deleted, "pod"));
        if self.gone > 0 {
            deeds.push_str(&format!(", {} gone already", self.gone));
        }
        text.push_str(&wrap(&format!("{deeds}."), "", "  "));
        for pod in &self.failed {
            text.push_str(&wrap(&format!("Not deleted: {}/{}: {}", pod.namespace, pod.name, pod.why), "  ", "    "));
        }
        self.owners.iter().for_each(|owner| owner.write(text, limit_ms));
        if let Some(error) = &self.error {
            text.push_str(&wrap(&format!("Cannot be asked any more: {error}"), "  ", "    "));
        }
    }
}

impl OwnerReport {
    /// Namespace, kind and name.
    pub fn title(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.kind, self.name)
    }

    /// What it waits for, in one sentence; `None` when there is nothing more to wait for.
    pub fn waiting(&self) -> Option<String> {
        let Progress::Waiting { ready, needed, missing, unready, deleting } = &self.progress else { return None };
        let mut parts = vec![format!("{ready} of {needed} ready")];
        if !deleting.is_empty() {
            parts.push(format!("still being deleted: {}", deleting.join(", ")));
        }
        if !unready.is_empty() {
            let pod = |(name, why): &(String, Option<String>)| match why {
                Some(why) => format!("{name} ({why})"),
                None => name.clone(),
            };
            parts.push(format!("not ready: {}", unready.iter().map(pod).collect::<Vec<_>>().join(", ")));
        }
        if *missing > 0 {
            parts.push(format!("not yet made: {}", count(*missing, "pod")));
        }
        Some(parts.join("; "))
    }

    fn write(&self, text: &mut String, limit_ms: u64) {
        let title = self.title();
        let line = match (&self.progress, self.waiting()) {
            (Progress::Gone, _) => format!("{title}: gone since the plan was made; nothing to wait for"),
            (Progress::Restarted { ready, pods }, _) if ready < pods => {
                format!("{title}: {ready} of {pods} ready, as many as before")
            }
            (Progress::Restarted { ready, .. }, _) => format!("{title}: {ready} ready"),
            (_, waiting) => format!("{title}: NOT READY within {}: {}", span(limit_ms), waiting.unwrap_or_default()),
        };
        text.push_str(&wrap(&line, "  ", "    "));
        if !self.progress.is_over() {
            // Commands stay on one line, so that they can be copied.
            text.push_str(&format!("    kubectl -n {} get pods -l '{}'\n", self.namespace, self.selector));
            text.push_str(&format!(
                "    kubectl -n {} describe {} {}\n",
                self.namespace,
                self.kind.to_lowercase(),
                self.name
            ));
        }
    }
}

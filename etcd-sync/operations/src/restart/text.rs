//! Plan and outcome for people.

use std::time::Duration;

use super::{
    ClusterPlan, ClusterReport, Left, LeftPod, Owner, OwnerReport, PlannedPod, Progress, RestartPlan, RestartReport,
    ServicePlan,
};
use crate::text::{count, span, wrap};

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
        text.push_str(&format!("{}\n", self.cluster));
        let mut owners: Vec<(&str, &Owner, Vec<&PlannedPod>)> = Vec::new();
        for pod in self.services.iter().flat_map(|service| &service.pods) {
            match owners.iter_mut().find(|(space, owner, _)| (*space, *owner) == (&pod.namespace, &pod.owner)) {
                Some((_, _, pods)) => pods.push(pod),
                None => owners.push((&pod.namespace, &pod.owner, vec![pod])),
            }
        }
        for (namespace, owner, pods) in owners {
            text.push_str(&format!("  {namespace}/{}/{}\n", owner.kind, owner.name));
            for pod in pods {
                text.push_str(&format!("    {}{}\n", pod.name, if pod.ready { "" } else { " (not ready)" }));
            }
        }
        for ServicePlan { selection, pods, left } in &self.services {
            if pods.is_empty() && left.is_empty() {
                text.push_str(&wrap(&format!("Skipped: no pod has {}.", selection.selector), "  ", "    "));
            }
            for LeftPod { namespace, name, reason } in left {
                let what = format!("{}: {namespace}/{name} stays: {}.", reason.word(), reason.text());
                text.push_str(&wrap(&what, "  ", "    "));
            }
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
                "no controller owns it, so nothing would create it again; delete it by hand if you can create it again"
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
            text.push_str(&format!(
                "Everything that was deleted is ready again after {}.\n",
                span(Duration::from_millis(self.took_ms))
            ));
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
        let mut done = format!("{name}: {} deleted", count(self.deleted, "pod"));
        if self.gone > 0 {
            done.push_str(&format!(", {} gone already", self.gone));
        }
        text.push_str(&wrap(&format!("{done}."), "", "  "));
        for pod in &self.failed {
            text.push_str(&wrap(&format!("Not deleted: {}/{}: {}", pod.namespace, pod.name, pod.why), "  ", "    "));
        }
        self.owners.iter().for_each(|owner| owner.write(text, limit_ms));
        if let Some(error) = &self.error {
            text.push_str(&wrap(&format!("Does not answer any more: {error}"), "  ", "    "));
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
            (_, waiting) => format!(
                "{title}: NOT READY within {}: {}",
                span(Duration::from_millis(limit_ms)),
                waiting.unwrap_or_default()
            ),
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

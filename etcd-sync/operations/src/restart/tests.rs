use std::collections::BTreeMap;

use super::*;
use crate::text::WIDTH;

fn pod(name: &str, uid: &str, owner: Option<(&str, &str)>) -> Pod {
    let owner = owner.map(|(kind, name)| Owner {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("uid-{kind}-{name}"),
    });
    Pod { namespace: "cpaas-system".into(), name: name.into(), uid: uid.into(), owner, ready: true, ..Pod::default() }
}

fn of(name: &str, uid: &str, ready: bool) -> Pod {
    Pod { ready, ..pod(name, uid, Some(("StatefulSet", "es"))) }
}

fn selection() -> Selection {
    Selection { selector: ELASTICSEARCH.into(), namespace: None }
}

fn plan(pods: Vec<Pod>) -> RestartPlan {
    let mut cluster = ClusterPlan::new("standby");
    cluster.add(selection(), pods);
    RestartPlan { clusters: vec![cluster] }
}

fn wait(pods: Vec<Pod>) -> Wait {
    let mut waits = plan(pods).waits();
    assert_eq!(waits.len(), 1, "{waits:?}");
    waits.remove(0)
}

#[test]
fn only_pods_that_come_back_are_planned() {
    let plan = plan(vec![
        pod("alone", "1", None),
        Pod { mirror: true, ..pod("static", "2", Some(("Node", "n1"))) },
        pod("job", "3", Some(("Job", "j"))),
        Pod { deleting: true, ..of("going", "4", true) },
        Pod { ended: true, ..of("over", "5", false) },
        of("es-0", "6", true),
    ]);
    let service = &plan.clusters[0].services[0];
    assert_eq!(service.pods.iter().map(|pod| pod.uid.as_str()).collect::<Vec<_>>(), ["6"]);
    let left: BTreeMap<&str, Left> = service.left.iter().map(|pod| (pod.name.as_str(), pod.reason)).collect();
    let expected = [
        ("alone", Left::NoOwner),
        ("static", Left::Static),
        ("job", Left::Job),
        ("going", Left::Deleting),
        ("over", Left::Ended),
    ];
    assert_eq!(left, BTreeMap::from(expected));
    assert!(plan.needs_a_hand() && !plan.finds_nothing());
}

#[test]
fn a_pod_with_two_labels_is_planned_once() {
    let mut cluster = ClusterPlan::new("standby");
    cluster.add(selection(), vec![of("es-0", "1", true)]);
    cluster.add(Selection { selector: "a=b".into(), namespace: None }, vec![of("es-0", "1", true)]);
    let plan = RestartPlan { clusters: vec![cluster] };
    assert_eq!((plan.count(), plan.clusters[0].services[1].left[0].reason), (1, Left::PlannedAbove));
    assert!(!plan.needs_a_hand());
}

#[test]
fn the_deleted_pods_never_count() {
    let wait = wait(vec![of("es-0", "1", true), of("es-1", "2", true)]);
    let before = wait.judge(&[of("es-0", "1", true), of("es-1", "2", true)], Wanted::Pods(2));
    let deleting = vec!["es-0".to_owned(), "es-1".to_owned()];
    assert_eq!(before, Progress::Waiting { ready: 0, needed: 2, missing: 2, unready: vec![], deleting });
    let crash = Pod { trouble: Some("CrashLoopBackOff".into()), ..of("es-1", "4", false) };
    let half = wait.judge(&[of("es-0", "3", true), crash], Wanted::Pods(2));
    let unready = vec![("es-1".to_owned(), Some("CrashLoopBackOff".to_owned()))];
    assert_eq!(half, Progress::Waiting { ready: 1, needed: 2, missing: 0, unready, deleting: vec![] });
    let done = wait.judge(&[of("es-0", "3", true), of("es-1", "4", true)], Wanted::Pods(2));
    assert_eq!(done, Progress::Restarted { ready: 2, pods: 2 });
    let going = Pod { deleting: true, ..of("es-1", "4", true) };
    assert!(!wait.judge(&[of("es-0", "3", true), going], Wanted::Pods(2)).is_over());
    let unowned = Pod { owner: None, ..of("es-1", "5", true) };
    assert!(!wait.judge(&[of("es-0", "3", true), unowned], Wanted::Pods(2)).is_over());
}

#[test]
fn what_was_broken_before_may_stay_broken_but_must_be_made_again() {
    let wait = wait(vec![of("es-0", "1", true), of("es-1", "2", false)]);
    assert!(!wait.judge(&[of("es-0", "3", true)], Wanted::Unknown).is_over());
    let now = [of("es-0", "3", true), of("es-1", "4", false)];
    assert_eq!(wait.judge(&now, Wanted::Unknown), Progress::Restarted { ready: 1, pods: 2 });
}

#[test]
fn an_owner_that_wants_fewer_or_is_gone_is_not_waited_for() {
    let wait = wait(vec![of("es-0", "1", true), of("es-1", "2", true)]);
    assert!(wait.judge(&[of("es-0", "3", true)], Wanted::Pods(1)).is_over());
    assert!(wait.judge(&[], Wanted::Pods(0)).is_over());
    assert_eq!(wait.judge(&[], Wanted::Gone), Progress::Gone);
    assert!(!wait.judge(&[], Wanted::Unknown).is_over());
}

#[test]
fn a_plan_survives_a_journal() {
    let mut clusters = plan(vec![of("es-0", "1", true), pod("alone", "2", None)]).clusters;
    clusters.push(ClusterPlan::failed("east", "no answer"));
    let plan = RestartPlan { clusters };
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<RestartPlan>(&text).unwrap(), plan);
    assert!(text.contains(r#""selector":"service_name=cpaas-elasticsearch""#), "{text}");
}

#[test]
fn a_cluster_that_could_not_be_asked_is_asked_again_and_no_other() {
    let asked = |uid: &str| {
        let mut cluster = ClusterPlan::new("east");
        cluster.add(selection(), vec![of("es-0", uid, true)]);
        RestartPlan { clusters: vec![cluster] }
    };
    let mut kept = plan(vec![of("es-0", "1", true)]);
    kept.complete(RestartPlan { clusters: vec![ClusterPlan::failed("east", "no answer")] });
    assert!(kept.knows("standby") && !kept.knows("east") && !kept.knows("west"), "{kept:?}");
    assert_eq!(kept.unasked(), ["east"]);
    kept.complete(RestartPlan { clusters: vec![ClusterPlan::failed("east", "no answer yet")] });
    assert_eq!(kept.clusters.len(), 2, "{kept:?}");
    kept.complete(asked("2"));
    assert!(kept.knows("east") && kept.unasked().is_empty(), "{kept:?}");
    // The pods of the second generation stay.
    kept.complete(asked("3"));
    assert_eq!(kept.pods().map(|(_, pod)| pod.uid.as_str()).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn the_plan_reads_well_at_eighty_columns() {
    let mut standby = ClusterPlan::new("standby");
    let es = |n: usize| {
        pod(&format!("cpaas-elasticsearch-{n}"), &format!("es{n}"), Some(("StatefulSet", "cpaas-elasticsearch")))
    };
    standby.add(selection(), vec![es(1), Pod { ready: false, ..es(0) }, pod("es-debug", "d", None)]);
    standby.add(Selection { selector: SERVICES[1].into(), namespace: None }, vec![]);
    let mut east = ClusterPlan::new("east.kubeconfig");
    east.add(
        Selection { selector: WORKLOAD_SERVICES[0].into(), namespace: None },
        vec![pod("warlock-5f7d8c9b6d-x2x4z", "w", Some(("Deployment", "warlock")))],
    );
    let error = "https://10.0.0.9:6443: no answer within 10s; check the server and the user that this file names";
    let plan = RestartPlan { clusters: vec![standby, east, ClusterPlan::failed("west.kubeconfig", error)] };
    let text = plan.text();
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert_eq!(text, PLAN, "{text}");
    let nothing = self::plan(vec![]);
    assert!(nothing.finds_nothing());
    let expected = "No pod is to be restarted.\n\nstandby\n  Skipped: no pod has service_name=cpaas-elasticsearch.\n";
    assert_eq!(nothing.text(), expected);
}

const PLAN: &str = "\
3 pods of 2 owners to be deleted, so that new ones start:

standby
  cpaas-system/StatefulSet/cpaas-elasticsearch
    cpaas-elasticsearch-0 (not ready)
    cpaas-elasticsearch-1
  Warning: cpaas-system/es-debug stays: no controller owns it, so nothing would
    create it again; delete it by hand if you can create it again.
  Skipped: no pod has service_name in (alertmanager,vmselect,vminsert).

east.kubeconfig
  cpaas-system/Deployment/warlock
    warlock-5f7d8c9b6d-x2x4z

NOT PLANNED in west.kubeconfig: https://10.0.0.9:6443: no answer within 10s;
  check the server and the user that this file names
";

#[test]
fn the_outcome_reads_well_at_eighty_columns() {
    let owners = |progress: Vec<Progress>| {
        let wait = wait(vec![of("es-0", "1", true), of("es-1", "2", true)]);
        progress.into_iter().map(|progress| OwnerReport::new(&wait, progress)).collect()
    };
    let unready = vec![("es-0".to_owned(), Some("container elasticsearch: CrashLoopBackOff".to_owned()))];
    let standby = ClusterReport {
        cluster: "standby".into(),
        deleted: 5,
        gone: 1,
        failed: vec![FailedPod {
            namespace: "cpaas-system".into(),
            name: "es-2".into(),
            why: "pods is forbidden".into(),
        }],
        owners: owners(vec![
            Progress::Restarted { ready: 2, pods: 2 },
            Progress::Restarted { ready: 1, pods: 2 },
            Progress::Waiting { ready: 0, needed: 2, missing: 1, unready, deleting: vec!["es-1".into()] },
            Progress::Gone,
        ]),
        error: None,
    };
    let east = ClusterReport { cluster: "east".into(), error: Some("no answer".into()), ..ClusterReport::default() };
    let report = RestartReport { clusters: vec![standby, east], limit_ms: 600_000, took_ms: 600_000 };
    assert!(!report.is_complete());
    assert_eq!(report.waiting().count(), 1);
    let text = report.text();
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert_eq!(text, OUTCOME, "{text}");
    let good = ClusterReport {
        deleted: 2,
        owners: owners(vec![Progress::Restarted { ready: 2, pods: 2 }]),
        ..Default::default()
    };
    let good = RestartReport {
        clusters: vec![ClusterReport { cluster: "standby".into(), ..good }],
        limit_ms: 1,
        took_ms: 61_000,
    };
    assert!(good.is_complete());
    let expected = "standby: 2 pods deleted.\n  cpaas-system/StatefulSet/es: 2 ready\nEverything that was deleted is ready again after 1m 1s.\n";
    assert_eq!(good.text(), expected);
}

const OUTCOME: &str = "\
standby: 5 pods deleted, 1 gone already.
  Not deleted: cpaas-system/es-2: pods is forbidden
  cpaas-system/StatefulSet/es: 2 ready
  cpaas-system/StatefulSet/es: 1 of 2 ready, as many as before
  cpaas-system/StatefulSet/es: NOT READY within 10m: 0 of 2 ready; still being
    deleted: es-1; not ready: es-0 (container elasticsearch: CrashLoopBackOff);
    not yet made: 1 pod
    kubectl -n cpaas-system get pods -l 'service_name=cpaas-elasticsearch'
    kubectl -n cpaas-system describe statefulset es
  cpaas-system/StatefulSet/es: gone since the plan was made; nothing to wait for
east: 0 pods deleted.
  Does not answer any more: no answer
";

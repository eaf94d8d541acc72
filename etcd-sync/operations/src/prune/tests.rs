//! Selection, the plan's text, and the transaction.

use super::*;
use etcd_sync_core::object::Owner;
use etcd_sync_core::scope::ScopeConfig;

const NOW: i64 = 1_000_000;

fn scope() -> Scope {
    Scope::new(&ScopeConfig { plain_prefixes: vec!["plain/".into()], ..ScopeConfig::default() }).unwrap()
}

fn kv(key: &str) -> KeyValue {
    let key = Bytes::copy_from_slice(key.as_bytes());
    KeyValue { key, value: Bytes::from_static(b"hunter2"), create_revision: 1, mod_revision: 7, lease: 0 }
}

fn object(key: &str, kind: &str, uid: &str, owners: &[&str], age_s: Option<i64>) -> Candidate {
    let header = Header {
        kind: kind.into(),
        uid: uid.into(),
        owners: owners.iter().map(|&uid| Owner { uid: uid.into(), ..Owner::default() }).collect(),
        created: age_s.map(|age| NOW - age),
        ..Header::default()
    };
    Candidate::new(&kv(key), SurplusReason::Local, Some(&header))
}

fn leftover(key: &str) -> Candidate {
    Candidate::new(&kv(key), SurplusReason::Leftover, None)
}

fn plan(candidates: Vec<Candidate>, selection: Selection) -> Plan {
    let surplus = candidates.len() as u64;
    let at = PlannedAt { link: "default".into(), primary_revision: 5, standby_revision: 9, surplus, now_s: NOW };
    Plan::new(candidates, &selection, &scope(), at)
}

fn keys(plan: &Plan) -> Vec<String> {
    plan.selected.iter().map(|row| printable(&row.candidate.key)).collect()
}

fn bytes(texts: &[&str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect()
}

fn some() -> Vec<Candidate> {
    vec![
        object("/registry/configmaps/apps/old", "ConfigMap", "1", &[], Some(300_000)),
        object("/registry/configmaps/apps/young", "ConfigMap", "2", &[], Some(10)),
        object("/registry/configmaps/shop/a", "ConfigMap", "3", &[], Some(3_600)),
        object("/registry/namespaces/shop", "Namespace", "4", &[], Some(3_700)),
        leftover("/registry/secrets/apps/encrypted"),
        leftover("plain/x"),
    ]
}

#[test]
fn nothing_asked_for_means_every_surplus_key() {
    assert_eq!(plan(some(), Selection::default()).count(), 6);
}

#[test]
fn what_is_given_must_all_fit() {
    for (selection, expected) in [
        (
            Selection { namespaces: vec!["shop".into()], ..Selection::default() },
            vec!["/registry/configmaps/shop/a", "/registry/namespaces/shop"],
        ),
        (
            Selection {
                namespaces: vec!["shop".into(), "apps".into()],
                below: bytes(&["/registry/configmaps/", "/registry/secrets/"]),
                older_than_s: Some(60),
                ..Selection::default()
            },
            vec!["/registry/configmaps/apps/old", "/registry/configmaps/shop/a"],
        ),
        (
            Selection {
                keys: bytes(&["plain/x", "/registry/configmaps/apps/old"]),
                origin: Origin::Leftover,
                ..Selection::default()
            },
            vec!["plain/x"],
        ),
        (Selection { origin: Origin::Local, below: bytes(&["plain/"]), ..Selection::default() }, vec![]),
        // A namespace is a whole name, and a prefix no pattern.
        (Selection { namespaces: vec!["sho".into()], ..Selection::default() }, vec![]),
    ] {
        assert_eq!(keys(&plan(some(), selection.clone())), expected, "{selection:?}");
    }
}

#[test]
fn what_has_no_age_is_counted_and_stays() {
    let plan = plan(some(), Selection { older_than_s: Some(1), ..Selection::default() });
    assert_eq!((plan.count(), plan.age_unknown), (4, 2));
}

#[test]
fn a_key_out_of_scope_is_never_selected() {
    let out =
        ["/registry/configmaps/kube-system/a", "/registry/minions/n", "/etcd-sync/default/role", "compact_rev_key"];
    let candidates = out.iter().map(|key| leftover(key)).collect();
    assert_eq!(plan(candidates, Selection { keys: bytes(&out), ..Selection::default() }).count(), 0);
}

#[test]
fn keys_named_that_are_not_surplus_are_told() {
    let keys = bytes(&["plain/x", "/registry/configmaps/apps/mirrored"]);
    let plan = plan(some(), Selection { keys, ..Selection::default() });
    assert_eq!(plan.not_surplus, ["/registry/configmaps/apps/mirrored"]);
}

#[test]
fn the_plan_reads_like_this() {
    let mut candidates = some();
    candidates.push(object("/registry/replicasets/apps/web-1", "ReplicaSet", "rs", &["d"], Some(7_300)));
    candidates.push(object("/registry/deployments/apps/web", "Deployment", "d", &[], Some(7_300)));
    candidates.push(object("/registry/configmaps/apps/of-web", "ConfigMap", "c", &["d"], None));
    let namespaces = vec!["apps".into(), "shop".into()];
    let below =
        bytes(&["/registry/deployments/", "/registry/namespaces/", "/registry/replicasets/", "/registry/secrets/"]);
    let plan = plan(candidates, Selection { namespaces, below, ..Selection::default() });
    assert_eq!(
        plan.text(usize::MAX),
        "4 of 9 surplus keys of link default are selected, to be saved in a file and deleted from the standby:
  ORIGIN    KIND        NAMESPACE  AGE      KEY
  local     Namespace   shop       61m      /registry/namespaces/shop
  leftover  secrets     apps       unknown  /registry/secrets/apps/encrypted
  local     Deployment  apps       2h       /registry/deployments/apps/web
  local     ReplicaSet  apps       2h       /registry/replicasets/apps/web-1
local: made on the standby, not by the synchronizer.
leftover: mirrored once and deleted on the primary since, or of unknown origin.
Warning: Owners: once they are gone, the standby's garbage collector deletes everything they own, selected or not.
  /registry/deployments/apps/web  (owns 1 of the selected keys, and 1 surplus keys that are not selected and not saved)
Warning: Namespaces: without its own object the rest of a namespace's content stays forever, also what is out of scope; \
`kubectl delete namespace` on the standby removes both.
  /registry/namespaces/shop  (1 surplus keys in it are not selected)
"
    );
    assert!(plan.text(2).contains("  … and 2 more (--limit 0 shows all)\n"));
    let json = plan.json();
    assert_eq!(
        (&json["selected"], &json["keys"][2]["kind"], &json["keys"][2]["ageSeconds"]),
        (&4.into(), &"Deployment".into(), &7_300.into())
    );
    assert_eq!((&json["warnings"][0]["kind"], &json["warnings"][1]["kind"]), (&"owner".into(), &"namespace".into()));
    assert!(!json.to_string().contains("hunter2") && !format!("{plan:?}").contains("hunter2"));
    let nothing = super::tests::plan(Vec::new(), Selection::default());
    assert_eq!(nothing.text(10), "0 of 0 surplus keys of link default are selected.\n");
}

#[test]
fn definitions_claims_and_finalizers_are_told() {
    let crd = "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.acme.io";
    let header = Header {
        kind: "CustomResourceDefinition".into(),
        finalizers: vec!["customresourcecleanup.apiextensions.k8s.io".into()],
        ..Header::default()
    };
    let candidate = Candidate::new(&kv(crd), SurplusReason::Local, Some(&header));
    let claim = leftover("/registry/persistentvolumeclaims/apps/data");
    let kinds: Vec<WarningKind> =
        plan(vec![candidate, claim], Selection::default()).warnings.iter().map(|w| w.kind).collect();
    assert_eq!(kinds, [WarningKind::Definition, WarningKind::Claim, WarningKind::Finalizers]);
}

#[test]
fn a_deletion_is_fenced_and_guarded() {
    let (keys, key) = (StateKeys::new("default"), Bytes::from_static(b"/registry/configmaps/apps/a"));
    let txn = deletion(&keys, &key, 7);
    assert_eq!(txn.compares, [is_standby(&keys), Compare::ModRevision { key: key.clone(), revision: 7 }]);
    assert_eq!(txn.success, [Op::Delete { key: key.clone() }, Op::Delete { key: keys.local_entry(&key) }]);
    let role =
        |role: &'static [u8]| Some(KeyValue { value: Bytes::from_static(role), ..kv("/etcd-sync/default/role") });
    let reply = |gets| TxnReply { succeeded: false, revision: 8, gets };
    assert_eq!(Fate::of(&TxnReply { succeeded: true, revision: 8, gets: vec![] }), Ok(Fate::Deleted));
    assert_eq!(Fate::of(&reply(vec![role(b"standby"), Some(kv("/a"))])), Ok(Fate::Changed));
    assert_eq!(Fate::of(&reply(vec![role(b"standby"), None])), Ok(Fate::Gone));
    assert_eq!(Fate::of(&reply(vec![role(b"primary"), None])), Err(NotStandby { found: "\"primary\"".into() }));
    assert!(Fate::of(&reply(vec![])).is_err());
}

#[test]
fn an_outcome_names_what_stays() {
    let mut outcome = Outcome::default();
    outcome.add(b"/a", Fate::Deleted);
    outcome.add(b"/b", Fate::Gone);
    assert!(outcome.is_complete());
    outcome.add(b"/c\xff", Fate::Changed);
    assert!(!outcome.is_complete());
    assert_eq!(
        outcome.text(Some("saved.jsonl")),
        "Deleted: 1 (saved in saved.jsonl)\nGone meanwhile, by the garbage collector or somebody else: 1\nNot deleted: 1\n  /c\\xff  (changed since \
         the plan: look at it, and prune again if it shall go)\nTo put them back: etcd-sync restore saved.jsonl\n"
    );
    assert_eq!(outcome.json(Some("f"))["notDeleted"], serde_json::json!([{ "key": "/c\\xff", "reason": "changed" }]));
}

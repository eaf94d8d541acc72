use super::*;

fn sample(resource: &str, name: &str, seal: Option<(&str, &str)>) -> Sample {
    Sample {
        key: format!("/registry/{resource}/{name}"),
        resource: resource.into(),
        own: true,
        seal: seal.map(|(provider, key)| EncryptedBy { provider: provider.into(), key: key.into() }),
        opens: Decrypts::NotTried,
        api_version: None,
    }
}

fn secret(key: &str) -> Sample {
    sample("secrets", "team-a/s", Some(("aescbc", key)))
}

fn plain() -> Sample {
    sample("secrets", "team-a/p", None)
}

fn opening(opens: Decrypts, mut sample: Sample) -> Sample {
    sample.opens = opens;
    sample
}

fn no() -> Decrypts {
    Decrypts::No("wrong key".into())
}

fn mirrored(mut sample: Sample) -> Sample {
    sample.own = false;
    sample
}

/// The worst level of one check, and its text.
fn worst(facts: &Facts, check: Check) -> (Level, String) {
    let findings = judge(facts);
    let found = findings.iter().filter(|finding| finding.check == check).max_by_key(|finding| finding.level);
    let found = found.unwrap_or_else(|| panic!("{check:?} says nothing"));
    assert_eq!(found.fix.is_none(), found.level == Level::Pass, "a remedy is given for what is wrong, only");
    (found.level, found.text())
}

fn encryption(config: bool, primary: &[Sample], standby: &[Sample]) -> (Level, String) {
    let facts = Facts {
        encryption_config: config,
        primary_samples: primary.to_vec(),
        standby_samples: standby.to_vec(),
        ..Facts::default()
    };
    worst(&facts, Check::Encryption)
}

#[test]
fn nothing_known_stops_nothing() {
    let findings = judge(&Facts::default());
    assert!(findings.iter().all(|finding| finding.level == Level::Pass), "{findings:?}");
    assert_eq!(refusal(&findings), None);
    let names: BTreeSet<&str> = findings.iter().map(|finding| finding.check.name()).collect();
    assert_eq!(names.len(), 6);
}

#[test]
fn encryption_with_a_config() {
    let yes = |sample| opening(Decrypts::Yes, sample);
    for (primary, standby, level, part) in [
        (vec![yes(plain())], vec![], Level::Pass, "none of 1"),
        (vec![yes(secret("k"))], vec![yes(secret("k"))], Level::Pass, "decrypts"),
        // The standby's API server may have switched keys before: what counts is that the config opens both.
        (vec![yes(secret("old"))], vec![yes(secret("new"))], Level::Pass, "decrypts"),
        (vec![yes(secret("k"))], vec![], Level::Warn, "no encrypted value of its own"),
        (vec![yes(secret("k"))], vec![yes(plain())], Level::Warn, "no encrypted value of its own"),
        (vec![yes(secret("k"))], vec![mirrored(yes(secret("k")))], Level::Warn, "no encrypted value of its own"),
        (
            vec![opening(no(), secret("k"))],
            vec![],
            Level::Fail,
            "/registry/secrets/team-a/s, encrypted with aescbc key k",
        ),
        (
            vec![yes(secret("k"))],
            vec![opening(no(), secret("k"))],
            Level::Fail,
            "not the one of this standby's API server",
        ),
        (vec![yes(plain())], vec![opening(no(), secret("k"))], Level::Fail, "not the one of this standby's API server"),
        // Copied before the primary's keys were changed: this synchronization fixes it.
        (
            vec![yes(secret("k"))],
            vec![yes(secret("k")), mirrored(opening(no(), secret("x")))],
            Level::Warn,
            "write it again",
        ),
        // The config has no identity provider for the resource.
        (vec![opening(no(), plain())], vec![yes(secret("k"))], Level::Fail, "not encrypted, cannot be read"),
        (vec![opening(Decrypts::Unknown("no answer".into()), secret("k"))], vec![], Level::Fail, "KMS plugin"),
    ] {
        let (got, text) = encryption(true, &primary, &standby);
        assert!(got == level && text.contains(part), "{primary:?} {standby:?}: {got:?} {text}");
    }
}

#[test]
fn encryption_without_a_config() {
    for (primary, standby, level, part) in [
        (vec![plain()], vec![plain()], Level::Pass, "none of 1"),
        (vec![secret("k")], vec![secret("k")], Level::Fail, "do not prove the same key"),
        (vec![secret("k")], vec![], Level::Fail, "not proved"),
        (vec![secret("k")], vec![mirrored(secret("k"))], Level::Fail, "not proved"),
        (vec![secret("k")], vec![secret("x")], Level::Fail, "encrypted differently"),
        (vec![secret("k")], vec![plain()], Level::Fail, "on the standby: not encrypted"),
        // A rotation under way on one side.
        (vec![secret("k"), secret("old")], vec![secret("k")], Level::Fail, "not proved"),
        (vec![plain()], vec![secret("k")], Level::Warn, "identity"),
        (vec![plain()], vec![secret("k"), plain()], Level::Pass, "none of 1"),
        // Another resource proves nothing and accuses nothing.
        (vec![secret("k")], vec![sample("configmaps", "kube-system/c", None)], Level::Fail, "not proved"),
    ] {
        let (got, text) = encryption(false, &primary, &standby);
        assert!(got == level && text.contains(part), "{primary:?} {standby:?}: {got:?} {text}");
    }
}

#[test]
fn the_operators_word_lets_the_unproved_pass_and_nothing_else() {
    let accepted = |config, primary: Sample, standby: Sample| {
        let facts = Facts {
            allow_unproved_encryption: true,
            encryption_config: config,
            primary_samples: vec![primary],
            standby_samples: vec![standby],
            ..Facts::default()
        };
        worst(&facts, Check::Encryption).0
    };
    assert_eq!(accepted(false, secret("k"), secret("k")), Level::Warn);
    assert_eq!(accepted(false, secret("k"), secret("x")), Level::Fail);
    assert_eq!(accepted(true, opening(Decrypts::Unknown("away".into()), secret("k")), secret("k")), Level::Warn);
    assert_eq!(accepted(true, opening(no(), secret("k")), secret("k")), Level::Fail);
}

#[test]
fn many_values_make_one_finding_a_resource() {
    let locked = |resource, name| opening(no(), sample(resource, name, Some(("aesgcm", "k"))));
    let facts = Facts {
        encryption_config: true,
        primary_samples: vec![locked("secrets", "a/1"), locked("secrets", "a/2"), locked("configmaps", "a/1")],
        ..Facts::default()
    };
    let findings = judge(&facts);
    let failed: Vec<&Finding> = findings.iter().filter(|finding| finding.level == Level::Fail).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed[1].evidence.contains("secrets/a/1") && failed[1].evidence.contains("and 1 more of secrets"));
    let refusal = refusal(&findings).unwrap();
    assert!(refusal.contains("configmaps/a/1") && refusal.contains("; also: "), "{refusal}");
}

#[test]
fn prefixes() {
    let judged = |primary, standby, others: &[&str]| {
        let facts = Facts {
            prefixes: vec![PrefixFact { prefix: "/registry/".into(), primary, standby }],
            other_prefixes: others.iter().map(|&other| other.to_owned()).collect(),
            ..Facts::default()
        };
        worst(&facts, Check::Prefix)
    };
    assert_eq!(judged(true, true, &["/other/"]).0, Level::Pass);
    assert_eq!(judged(false, false, &["/other/"]).0, Level::Pass);
    assert_eq!(judged(true, false, &[]).0, Level::Warn);
    let (level, text) = judged(true, false, &["/kubernetes.io/"]);
    assert!(level == Level::Fail && text.contains("/kubernetes.io/") && text.contains("--etcd-prefix"), "{text}");
}

fn api(version: &str, serves: Option<&[&str]>) -> ApiFact {
    let serves = serves.map(|serves| serves.iter().map(|&version| version.to_owned()).collect());
    ApiFact::Answered { version: version.into(), serves }
}

fn versions(primary: ApiFact, standby: ApiFact, stored: &[(&str, &str)]) -> (Level, String) {
    let samples = stored.iter().map(|(resource, version)| {
        let version = Some((*version).to_owned());
        Sample { api_version: version, ..sample(resource, "a", None) }
    });
    let samples = samples.collect();
    worst(
        &Facts { primary_api: primary, standby_api: standby, primary_samples: samples, ..Facts::default() },
        Check::ApiVersions,
    )
}

#[test]
fn api_versions() {
    let (old, new) = (Some(&["v1", "apps/v1"][..]), Some(&["v1", "apps/v1", "apps/v2"][..]));
    let failed = || ApiFact::Failed { why: "refused".into(), fix: "check the token".into() };
    let stored = [("secrets", "v1"), ("deployments", "apps/v2")];
    assert_eq!(versions(ApiFact::NotAsked, ApiFact::NotAsked, &stored).1, "not asked");
    assert_eq!(versions(failed(), ApiFact::NotAsked, &stored).0, Level::Warn);
    assert_eq!(versions(api("v1.34.4", old), api("v1.34.1+k3s1", old), &stored[..1]).0, Level::Pass);
    assert_eq!(versions(api("v1.34.4", old), api("v1.36.3", new), &stored[..1]).0, Level::Warn);
    let (level, text) = versions(api("v1.36.3", new), api("v1.34.4", old), &stored);
    assert!(level == Level::Fail && text.contains("deployments as apps/v2"), "{text}");
    assert!(text.contains("--cluster-local-add deployments/**") && !text.contains("secrets"), "{text}");
    // Without the primary's word it counts as served there; stored and served nowhere, it is read all the same.
    assert_eq!(versions(failed(), api("v1.34.4", old), &stored).0, Level::Fail);
    assert_eq!(versions(api("v1.34.4", old), api("v1.34.4", old), &stored).0, Level::Warn);
    // Every API server stores CRDs so, and none serves it.
    let crds = [("apiextensions.k8s.io/customresourcedefinitions", "apiextensions.k8s.io/v1beta1")];
    assert_eq!(versions(ApiFact::NotAsked, api("v1.34.4", old), &crds).0, Level::Pass);
    assert_eq!(versions(ApiFact::NotAsked, api("v1.34.4", None), &stored).1, "not asked");
    assert_eq!(versions(api("nonsense", None), api("nonsense", None), &[]).0, Level::Warn);
}

fn member(in_use: i64, quota: Option<i64>) -> Member {
    Member {
        endpoint: "http://a:1".into(),
        version_warning: None,
        in_use_bytes: in_use << 20,
        quota_bytes: quota.map(|mib| mib << 20),
        alarms: Vec::new(),
    }
}

#[test]
fn room() {
    let quota = |first, primary, standby| {
        let facts = Facts {
            first,
            primary_members: vec![member(primary, Some(1))],
            standby_members: vec![standby],
            ..Facts::default()
        };
        worst(&facts, Check::Quota)
    };
    assert_eq!(quota(true, 100, member(100, Some(2048))).0, Level::Pass);
    assert_eq!(quota(true, 1900, member(200, Some(2048))).0, Level::Warn);
    assert_eq!(quota(true, 1900, member(200, Some(8192))).0, Level::Pass);
    let (level, text) = quota(true, 3000, member(200, Some(2048)));
    assert!(level == Level::Fail && text.contains("3000 MiB") && text.contains("--quota-backend-bytes"), "{text}");
    assert_eq!(quota(false, 3000, member(200, Some(2048))).0, Level::Warn);
    let (level, text) = quota(true, 3000, member(200, None));
    assert!(level == Level::Warn && text.contains("(assumed) 2048 MiB"), "{text}");
}

#[test]
fn alarms_and_bugs() {
    let with = |change: fn(&mut Member)| {
        let mut bad = member(1, None);
        change(&mut bad);
        Facts {
            primary_members: vec![member(1, None)],
            standby_members: vec![member(1, None), bad],
            ..Facts::default()
        }
    };
    let full = with(|member| member.alarms = vec!["memberID:1 alarm:NOSPACE ".into()]);
    let (level, text) = worst(&full, Check::Alarms);
    assert!(level == Level::Fail && text.contains("etcdctl alarm disarm"), "{text}");
    let corrupt = with(|member| member.alarms = vec!["memberID:1 alarm:CORRUPT ".into()]);
    let (level, text) = worst(&corrupt, Check::Alarms);
    assert!(level == Level::Fail && text.contains("CORRUPT"), "{text}");
    let old = with(|member| member.version_warning = Some("has bugs".into()));
    let (level, text) = worst(&old, Check::EtcdVersions);
    assert!(level == Level::Warn && text.contains("standby member http://a:1: has bugs"), "{text}");
}

#[test]
fn json() {
    let finding = Finding::warn(Check::ApiVersions, "seen", "do");
    let json = serde_json::to_string(&finding).unwrap();
    assert_eq!(json, r#"{"check":"api-versions","level":"warn","evidence":"seen","fix":"do"}"#);
    let passed = serde_json::to_string(&Finding::pass(Check::Quota, "fine")).unwrap();
    assert_eq!(passed, r#"{"check":"quota","level":"pass","evidence":"fine"}"#);
}

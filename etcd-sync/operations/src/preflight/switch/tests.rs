use super::*;
use crate::dns::{Kind, Records, Said};
use crate::fixture;
use crate::preflight::{Level, text, worst};
use etcd_sync_core::link::state::Phase;

const NOW_S: i64 = 1_800_000_000;

fn checkpoint(phase: Phase) -> Checkpoint {
    Checkpoint {
        primary: "a1".into(),
        phase,
        revision: 48_211,
        epoch: 7,
        base: 1,
        at_ms: NOW_S as u64 * 1_000 - 1_500,
        ..fixture::checkpoint()
    }
}

fn certificate(place: &str, days: i64) -> CertificateFact {
    CertificateFact {
        place: place.into(),
        use_: CertificateUse::Identity,
        found: Ok(Certificate { subject: "CN=etcd".into(), not_before_s: 0, not_after_s: NOW_S + days * 86_400 }),
    }
}

fn answer(kind: Kind, address: &str, ttl_s: u32) -> Answer {
    let addresses = BTreeSet::from([address.parse().unwrap()]);
    // Of the other family there is nothing, and that may be remembered for a day.
    let records = Records { addresses, ttls_s: [ttl_s, 86_400], ..Records::default() };
    let server = if kind == Kind::Authoritative { "10.0.0.53:53" } else { "10.0.9.53:53" };
    Answer { server: server.into(), kind, said: Said::Records(records) }
}

/// Everything as it should be.
fn good() -> Facts {
    let ready = |url: &str| ApiServerFact::Answered { url: url.into(), unready: None };
    let running = |name: &str| Machine { name: name.into(), phase: "Running".into() };
    let port = |side, address: &str| PortFact { side, address: address.into(), closed: None };
    Facts {
        purpose: For::Asked,
        limits: Limits {
            lag: Duration::from_secs(10),
            lag_revisions: 1_000,
            headroom: Duration::from_secs(60),
            expiry: Duration::from_secs(30 * 86_400),
        },
        now_ms: NOW_S as u64 * 1_000,
        link: "default".into(),
        compared: Compared::Now(Comparison {
            keys: 18_204,
            revision: 48_211,
            synchronizer: true,
            ..Comparison::default()
        }),
        standby: Ok(StandbyFact {
            cluster: "b2".into(),
            role: Role::Standby,
            checkpoint: Ok(Some(checkpoint(Phase::Streaming))),
            leader: Some(("etcd-sync-7d9f-x2k8p".into(), 51_002)),
            others: vec!["etcd-sync-7d9f-m4q1z".into()],
            paused: None,
            primary_contact: None,
            open_run: None,
        }),
        primary: Ok(PrimaryFact {
            cluster: "a1".into(),
            revision: 48_214,
            role: Role::None,
            standby_of: Vec::new(),
            unwatchable: false,
        }),
        lag: Some(LagFact {
            revisions: 3,
            reached: Some(Duration::from_millis(420)),
            waited: Duration::from_millis(420),
        }),
        history: Some(HistoryFact { gone: false, revisions: 6_120, time: Some(Duration::from_secs(512)) }),
        members: Sides { primary: Agreement::Alone, standby: Agreement::Alone },
        kubernetes: Sides { primary: true, standby: true },
        api_servers: Sides { primary: ready("https://10.0.0.10:6443"), standby: ready("https://10.1.0.10:6443") },
        certificates: vec![
            certificate("--primary-cert /certs/client.crt", 200),
            certificate("etcd https://e:2379", 90),
        ],
        clocks: vec![
            ClockFact { who: "https://10.0.0.10:6443".into(), ahead_ms: 900, accuracy_ms: 520 },
            ClockFact { who: "https://10.1.0.10:6443".into(), ahead_ms: -300, accuracy_ms: 520 },
        ],
        machines: Sides {
            primary: MachinesFact::Found(vec![running("m1"), running("m2")]),
            standby: MachinesFact::None,
        },
        dns: Some(DnsFact {
            target: Target {
                name: "acp.example.com".into(),
                addresses: BTreeSet::from(["10.1.0.10".parse().unwrap()]),
                ttl_s: 60,
            },
            from: BTreeSet::from(["10.0.0.10".parse().unwrap()]),
            answers: vec![answer(Kind::Authoritative, "10.0.0.10", 60), answer(Kind::Resolver, "10.0.0.10", 41)],
        }),
        ports: vec![port(Side::Primary, "10.0.0.10:2379"), port(Side::Standby, "10.1.0.1:2379")],
    }
}

/// All findings of one check that did not pass: the worst level and their texts.
fn found(facts: &Facts, check: Check) -> (Level, String) {
    let findings: Vec<Finding> = judge(facts).into_iter().filter(|finding| finding.check == check).collect();
    assert!(!findings.is_empty(), "{check:?} says nothing");
    let lacks_fix = |finding: &&Finding| finding.fix.is_none() != (finding.level == Level::Pass);
    assert_eq!(findings.iter().find(lacks_fix), None, "a remedy is given for what is wrong, only");
    let level = worst(&findings);
    let texts = findings.iter().filter(|finding| finding.level == level).map(Finding::text);
    (level, texts.collect::<Vec<_>>().join(" | "))
}

#[track_caller]
fn assert_found(facts: &Facts, check: Check, level: Level, parts: &[&str]) {
    let (got, text) = found(facts, check);
    assert_eq!(got, level, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = good();
    change(&mut facts);
    facts
}

fn missed(keys: &[&str], ended_ms: Option<u64>) -> Comparison {
    Comparison {
        keys: 100,
        revision: 9,
        synchronizer: true,
        missed: keys.len() as u64,
        missed_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ended_ms,
        ..Comparison::default()
    }
}

#[test]
fn everything_as_it_should_be_passes() {
    let findings = judge(&good());
    assert_eq!(worst(&findings), Level::Pass, "{findings:#?}");
    let expected = "\
pass  check          nothing is missed, 18204 keys compared at the primary's
                     revision 48211
pass  synchronizer   etcd-sync-7d9f-x2k8p leads (epoch 51002) and streams;
                     etcd-sync-7d9f-m4q1z is ready to take over
pass  lag            the standby was 3 revisions behind, and came up to the
                     primary within 0.4 s
pass  headroom       the primary's history reaches 6120 revisions back, 8m 32s
                     at its pace
pass  role           the standby has the role of one (link default), and was
                     synchronized from this primary
pass  members        the primary has one member, the standby has one member
pass  api-servers    ready: the primary's (https://10.0.0.10:6443), the
                     standby's (https://10.1.0.10:6443)
pass  certificates   all 2 are valid; the next one to expire does so on
                     2027-04-15T08:00:00Z (in 90 days): etcd https://e:2379
pass  clocks         the clocks of 2 others agree with this machine's
pass  machines       all run (2 on both sides together)
pass  dns            acp.example.com points at 10.0.0.10, to be remembered for
                     60 s
pass  client-port    primary 10.0.0.10:2379: open, standby 10.1.0.1:2379: open

Everything passed.
";
    assert_eq!(text(&findings), expected);
}

#[test]
fn a_missed_key_stops_everything_and_a_machine_is_pointed_at() {
    let facts = with(|facts| facts.compared = Compared::Now(missed(&["/registry/configmaps/apps/c7"], None)));
    assert_found(
        &facts,
        Check::Comparison,
        Level::Fail,
        &["1 key of the primary is missed", "apps/c7", "do not switch", "app=etcd-sync"],
    );
    assert!(!found(&facts, Check::Comparison).1.contains("MACHINES"));
    let machine = "/registry/platform.tkestack.io/machines/m1";
    let facts = with(|facts| facts.compared = Compared::Now(missed(&["/a", "/b", "/c", "/d", "/e", machine], None)));
    assert_found(&facts, Check::Comparison, Level::Fail, &["6 keys of", "/e and 1 more", "MACHINES ARE AMONG THEM"]);
}

#[test]
fn surplus_keys_are_warned_of_and_what_is_not_looked_into_fails() {
    let surplus = Comparison { surplus: 1, surplus_keys: vec!["/x".into()], ..missed(&[], None) };
    let facts = with(|facts| facts.compared = Compared::Now(surplus));
    assert_found(&facts, Check::Comparison, Level::Warn, &["only the standby has 1 key: /x", "prune"]);
    let facts = with(|facts| facts.compared = Compared::Now(Comparison { unproved: 3, ..missed(&[], None) }));
    assert_found(&facts, Check::Comparison, Level::Fail, &["3 differences were not examined"]);
}

#[test]
fn without_a_verdict_the_monitors_last_one_counts() {
    let not = |last| Compared::Not { why: "no route to host".into(), last };
    let ended = Some(NOW_S as u64 * 1_000 - 185_000);
    for (purpose, level) in [(For::Asked, Level::Fail), (For::Failover, Level::Warn)] {
        let facts = |last| with(|facts| (facts.compared, facts.purpose) = (not(last), purpose));
        assert_found(&facts(Last::NotAsked), Check::Comparison, level, &["no route to host", "--monitor URL"]);
        let unknown = facts(Last::Unknown("it has none".into()));
        assert_found(&unknown, Check::Comparison, level, &["does not know it either (it has none)"]);
        let known = facts(Last::Known(missed(&[], ended)));
        assert_found(&known, Check::Comparison, level, &["last comparison, 3m 5s ago: nothing is missed, 100 keys"]);
        let known = facts(Last::Known(missed(&["/lost"], ended)));
        assert_found(&known, Check::Comparison, Level::Fail, &["1 key of the primary is missed on the standby: /lost"]);
    }
}

#[test]
fn nobody_leads_or_replication_is_paused() {
    let standby = |change: fn(&mut StandbyFact)| with(|facts| change(facts.standby.as_mut().unwrap()));
    let check = Check::Synchronizer;
    assert_found(&standby(|fact| fact.leader = None), check, Level::Fail, &["no synchronizer is running"]);
    let paused = standby(|fact| fact.paused = Some("the primary is empty".into()));
    assert_found(&paused, check, Level::Fail, &["replication is paused: the primary is empty", "etcd-sync status"]);
    let copying = standby(|fact| fact.checkpoint = Ok(Some(checkpoint(Phase::Resync))));
    assert_found(&copying, check, Level::Fail, &["resync is under way"]);
    assert_found(&standby(|fact| fact.checkpoint = Ok(None)), check, Level::Fail, &["over the link default"]);
    let alone = standby(|fact| fact.others.clear());
    assert_found(&alone, check, Level::Pass, &["no other replica"]);
}

#[test]
fn lag_is_measured_by_waiting() {
    let lag = |revisions, reached: Option<u64>, waited: u64| {
        let fact =
            LagFact { revisions, reached: reached.map(Duration::from_millis), waited: Duration::from_millis(waited) };
        with(|facts| facts.lag = Some(fact))
    };
    let check = Check::Lag;
    let stuck = lag(5, None, 10_000);
    assert_found(&stuck, check, Level::Fail, &["5 revisions behind, did not come", "within 10.0 s", "--max-lag"]);
    assert_found(&lag(5, None, 0), check, Level::Fail, &["no synchronizer is running"]);
    assert_found(&lag(5, Some(11_000), 11_000), check, Level::Fail, &["within 11.0 s"]);
    assert_found(&lag(2_000, Some(900), 900), check, Level::Warn, &["2000 revisions", "many writes"]);
    assert_found(&lag(0, Some(0), 0), check, Level::Pass, &["is where the primary is"]);
    assert_found(&with(|facts| facts.lag = None), check, Level::Fail, &["cannot be measured"]);
}

#[test]
fn a_silent_primary_is_expected_before_a_failover_only() {
    let silent = |purpose| {
        with(|facts| {
            facts.purpose = purpose;
            facts.primary = Err("no answer within 5s".into());
            (facts.lag, facts.history) = (None, None);
            let seen = PrimaryContact { revision: 48_220, at_ms: NOW_S as u64 * 1_000 - 60_000 };
            facts.standby.as_mut().unwrap().primary_contact = Some(seen);
        })
    };
    for check in [Check::Lag, Check::Role] {
        assert_found(&silent(For::Asked), check, Level::Fail, &["no answer within 5s", "--primary-endpoints"]);
        assert_found(&silent(For::Failover), check, Level::Warn, &["no answer within 5s"]);
    }
    let known = ["everything up to its revision 48211, written 1.5 s ago, 9 revisions less than it had 1m ago"];
    assert_found(&silent(For::Failover), Check::Lag, Level::Warn, &known);
    assert_found(&silent(For::Asked), Check::Headroom, Level::Warn, &["the primary does not answer"]);
}

#[test]
fn without_the_standby_nothing_goes() {
    for purpose in [For::Asked, For::Failover] {
        let facts = with(|facts| (facts.standby, facts.purpose) = (Err("refused".into()), purpose));
        for check in [Check::Synchronizer, Check::Lag, Check::Role] {
            assert_found(&facts, check, Level::Fail, &["refused", "--standby-endpoints"]);
        }
    }
}

#[test]
fn history_that_ends_soon() {
    let history = |gone, time: u64| {
        let fact = HistoryFact { gone, revisions: 40, time: Some(Duration::from_secs(time)) };
        with(|facts| facts.history = Some(fact))
    };
    assert_found(&history(false, 59), Check::Headroom, Level::Warn, &["in 59.0 s (40 revisions)"]);
    assert_found(&history(false, 60), Check::Headroom, Level::Pass, &["40 revisions"]);
    assert_found(&history(true, 60), Check::Headroom, Level::Fail, &["compacted"]);
}

#[test]
fn each_cluster_must_be_what_it_should_be() {
    let check = Check::Role;
    let standby = |role: Role| with(|facts| facts.standby.as_mut().unwrap().role = role);
    for (role, part) in [
        (Role::None, "has no role"),
        (Role::Primary, "promoted already"),
        (Role::Demoted { token: "r1".into() }, "marked as a demoted primary by run r1"),
        (Role::Other("odd".into()), "\"odd\""),
    ] {
        assert_found(&standby(role), check, Level::Fail, &[part]);
    }
    let primary = |change: fn(&mut PrimaryFact)| with(|facts| change(facts.primary.as_mut().unwrap()));
    assert_found(&primary(|fact| fact.cluster = "b2".into()), check, Level::Fail, &["the same etcd cluster"]);
    assert_found(&primary(|fact| fact.cluster = "c3".into()), check, Level::Fail, &["cluster c3", "from cluster a1"]);
    assert_found(
        &primary(|fact| fact.standby_of = vec!["x".into()]),
        check,
        Level::Fail,
        &["itself a standby (link x)"],
    );
    let said = ["may not watch all of its keys", "read \"\" --from-key=true"];
    assert_found(&primary(|fact| fact.unwatchable = true), check, Level::Fail, &said);
    let mut demoted = primary(|fact| fact.role = Role::Demoted { token: "r1".into() });
    assert_found(&demoted, check, Level::Fail, &["marked as demoted by another run (r1)"]);
    if let Ok(standby) = &mut demoted.standby {
        standby.open_run = Some("r1".into());
    }
    assert_eq!(found(&demoted, check).0, Level::Pass);
    assert_eq!(found(&primary(|fact| fact.role = Role::Primary), check).0, Level::Pass);
}

#[test]
fn the_standby_must_serve() {
    let failed = || ApiServerFact::Failed { why: "https://x: refused".into(), fix: "fix it".into() };
    let check = Check::ApiServers;
    assert_found(
        &with(|facts| facts.api_servers.standby = failed()),
        check,
        Level::Fail,
        &["the standby's", "refused"],
    );
    assert_found(&with(|facts| facts.api_servers.primary = failed()), check, Level::Warn, &["the primary's", "fix it"]);
    let unready = ApiServerFact::Answered { url: "https://x".into(), unready: Some("500: etcd failed".into()) };
    assert_found(
        &with(|facts| facts.api_servers.standby = unready),
        check,
        Level::Fail,
        &["not ready: 500", "/readyz"],
    );
    let untold = |kubernetes| {
        with(|facts| {
            facts.kubernetes = Sides { primary: kubernetes, standby: kubernetes };
            facts.api_servers.primary = ApiServerFact::NotAsked("--active-cluster-vip");
            facts.api_servers.standby = ApiServerFact::NotAsked("--standby-api-server");
        })
    };
    assert_found(&untold(true), check, Level::Warn, &["--active-cluster-vip", "--standby-api-server"]);
    assert_found(&untold(false), check, Level::Pass, &["no Kubernetes"]);
}

#[test]
fn certificates_end() {
    let one =
        |days, use_| with(|facts| facts.certificates = vec![CertificateFact { use_, ..certificate("--x f", days) }]);
    let check = Check::Certificates;
    let identity = CertificateUse::Identity;
    assert_found(
        &one(-2, identity),
        check,
        Level::Fail,
        &["--x f expired on 2027-01-13T08:00:00Z (2 days ago", "CN=etcd"],
    );
    assert_found(&one(29, identity), check, Level::Warn, &["--x f expires on 2027-02-13", "in 29 days"]);
    assert_found(&one(31, identity), check, Level::Pass, &["--x f"]);
    let leftover = CertificateUse::Authority { others_valid: true };
    assert_found(&one(-2, leftover), check, Level::Warn, &["others in that file are valid"]);
    assert_found(&one(-2, CertificateUse::Authority { others_valid: false }), check, Level::Fail, &["renew"]);
    let early = with(|facts| facts.certificates[0].found.as_mut().unwrap().not_before_s = NOW_S + 60);
    assert_found(&early, check, Level::Fail, &["not valid before"]);
    let broken = with(|facts| facts.certificates[0].found = Err("not PEM".into()));
    assert_found(&broken, check, Level::Warn, &["not PEM"]);
    assert_found(&with(|facts| facts.certificates.clear()), check, Level::Pass, &["no TLS"]);
}

#[test]
fn clocks_are_apart_when_the_look_can_tell() {
    let clock = |ahead_ms, accuracy_ms| {
        with(|facts| facts.clocks = vec![ClockFact { who: "etcd e".into(), ahead_ms, accuracy_ms }])
    };
    let check = Check::Clocks;
    assert_found(&clock(2_400, 520), check, Level::Pass, &["the clock of etcd e agrees"]);
    assert_found(&clock(2_600, 520), check, Level::Warn, &["etcd e is 2.6 s ahead of"]);
    assert_found(&clock(-61_000, 500), check, Level::Fail, &["1m 1s behind", "NTP"]);
    assert_found(&with(|facts| facts.clocks.clear()), check, Level::Pass, &["no other machine"]);
}

#[test]
fn members_that_disagree_stop_a_switch_but_not_a_failover() {
    let odd = || Agreement::Disagree { majority: vec!["a".into(), "b".into()], odd: vec!["c".into()] };
    let facts = with(|facts| facts.members.standby = odd());
    let (level, text) = found(&facts, Check::Members);
    assert_eq!(level, Level::Fail);
    assert!(
        text.contains("the standby's etcd") && text.contains("c differs") && text.contains("member remove"),
        "{text}"
    );
    let facts = with(|facts| (facts.members.standby, facts.purpose) = (odd(), For::Failover));
    assert_eq!(found(&facts, Check::Members).0, Level::Warn);
    // What cannot be asked is no fault.
    let facts = with(|facts| facts.members.primary = Agreement::NotAsked("no right".into()));
    assert_eq!(worst(&judge(&facts)), Level::Pass);
}

#[test]
fn every_machine_must_run() {
    let primary = |fact| with(|facts| facts.machines.primary = fact);
    let check = Check::Machines;
    let machine = |name: &str, phase: &str| Machine { name: name.into(), phase: phase.into() };
    let odd =
        primary(MachinesFact::Found(vec![machine("m1", "Running"), machine("m2", "Initializing"), machine("m3", "")]));
    assert_found(
        &odd,
        check,
        Level::Fail,
        &["on the primary 2 Machines are not running: m2 (Initializing), m3 (no phase)"],
    );
    let failed = |without_token| primary(MachinesFact::Failed { why: "403".into(), without_token });
    assert_found(&failed(None), check, Level::Warn, &["cannot be read (403)", "with the token given"]);
    let flag = "--active-cluster-token-file";
    assert_found(
        &failed(Some(flag)),
        check,
        Level::Warn,
        &["cannot be read (403)", "give --active-cluster-token-file:"],
    );
    let untold = |stored| primary(MachinesFact::NotAsked { flag: "--active-cluster-vip", stored });
    assert_found(&untold(Some(2)), check, Level::Warn, &["the primary's 2 Machines", "--active-cluster-vip"]);
    assert_found(&untold(None), check, Level::Warn, &["if there are any"]);
    assert_found(&untold(Some(0)), check, Level::Pass, &["there are no Machines"]);
}

#[test]
fn the_domain_must_point_at_one_of_the_two() {
    let answers = |answers: Vec<Answer>| with(|facts| facts.dns.as_mut().unwrap().answers = answers);
    let check = Check::Dns;
    let (owner, resolver) = (Kind::Authoritative, Kind::Resolver);
    let elsewhere = answers(vec![answer(owner, "10.9.9.9", 60)]);
    assert_found(&elsewhere, check, Level::Fail, &["points at 10.9.9.9", "neither the primary's address (10.0.0.10)"]);
    assert_found(&answers(vec![answer(owner, "10.1.0.10", 60)]), check, Level::Warn, &["the standby already"]);
    assert_found(&answers(vec![answer(owner, "10.0.0.10", 301)]), check, Level::Warn, &["remembered for 301 s", "TTL"]);
    let saying = |kind, said| Answer { said, ..answer(kind, "10.0.0.10", 1) };
    let silent = |kind| answers(vec![saying(kind, Said::Failed("refused".into()))]);
    assert_found(&silent(owner), check, Level::Fail, &["authoritative server 10.0.0.53:53", "refused"]);
    assert_found(&silent(resolver), check, Level::Warn, &["the resolver"]);
    let nothing = saying(owner, Said::Records(Records::default()));
    assert_found(&answers(vec![nothing]), check, Level::Fail, &["has no address"]);
    let alias = saying(owner, Said::Records(Records { alias: Some("b.example.com".into()), ..Records::default() }));
    let with_alias = answers(vec![alias.clone(), answer(resolver, "10.0.0.10", 9)]);
    assert_found(&with_alias, check, Level::Pass, &["points at 10.0.0.10"]);
    assert_found(&answers(vec![alias]), check, Level::Warn, &["no name server"]);
    assert_found(&answers(vec![]), check, Level::Warn, &["no name server"]);
    assert_found(&with(|facts| facts.dns = None), check, Level::Pass, &["--domain"]);
    let mut untold = answers(vec![answer(owner, "10.9.9.9", 60)]);
    untold.dns.as_mut().unwrap().from.clear();
    assert_eq!(found(&untold, check).0, Level::Pass);
}

#[test]
fn a_closed_port_is_bad_only_where_somebody_streams_through_it() {
    let closed = |change: fn(&mut Facts)| {
        with(|facts| {
            facts.ports[0].closed = Some("refused".into());
            change(facts);
        })
    };
    let check = Check::ClientPort;
    assert_found(
        &closed(|_| {}),
        check,
        Level::Fail,
        &["primary 10.0.0.10:2379: closed", "yet a synchronizer streams"],
    );
    let stopped = closed(|facts| facts.standby.as_mut().unwrap().leader = None);
    assert_found(&stopped, check, Level::Pass, &["primary 10.0.0.10:2379: closed, standby 10.1.0.1:2379: open"]);
}

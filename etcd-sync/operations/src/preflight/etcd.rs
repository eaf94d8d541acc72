//! The two etcds.

use etcd_sync_core::link::overlap::Overlap;

use super::{Check, Facts, Finding, Member};

/// What etcd takes when nobody says otherwise.
const DEFAULT_QUOTA_BYTES: i64 = 2 << 30;

/// Another link writes the same keys into the standby.
pub fn overlap(overlap: &Overlap) -> Finding {
    let Overlap { link, prefix } = overlap;
    let gone = format!(
        "if that one is not used any more, delete its record in the standby: etcdctl del --prefix /etcd-sync/{link}/"
    );
    match prefix {
        Some(prefix) => Finding::fail(
            Check::Prefix,
            format!(
                "the standby receives keys below {prefix} by its link {link} already: two links with the same keys would delete each \
                 other's"
            ),
            format!("give this one other prefixes, or uninstall one of the two; {gone}"),
        ),
        None => Finding::fail(
            Check::Prefix,
            format!("the standby's link {link} has no record of its prefixes: it may synchronize the same keys"),
            format!("start its synchronizer in this version, which records them; {gone}"),
        ),
    }
}

/// Known bugs of the versions.
pub fn versions(facts: &Facts) -> Vec<Finding> {
    let sides = [("primary", &facts.primary_members), ("standby", &facts.standby_members)];
    let members = sides.into_iter().flat_map(|(side, members)| members.iter().map(move |member| (side, member)));
    let warned: Vec<Finding> = members
        .filter_map(|(side, member)| {
            let warning = member.version_warning.as_ref()?;
            let evidence = format!("{side} member {}: {warning}", member.endpoint);
            Some(Finding::warn(Check::EtcdVersions, evidence, "upgrade that etcd before you rely on this link"))
        })
        .collect();
    match warned.is_empty() {
        true => vec![Finding::pass(Check::EtcdVersions, "nothing is known against the versions of the members")],
        false => warned,
    }
}

/// Whether the standby has room for what is coming.
pub fn quota(facts: &Facts) -> Vec<Finding> {
    let in_use = |members: &[Member]| members.iter().map(|member| member.in_use_bytes).max();
    let (Some(primary), Some(standby)) = (in_use(&facts.primary_members), in_use(&facts.standby_members)) else {
        return vec![Finding::pass(Check::Quota, "the size of a side is not known")];
    };
    // The member with the least room stops the whole cluster.
    let told = facts.standby_members.iter().filter_map(|member| member.quota_bytes).min();
    let quota = told.unwrap_or(DEFAULT_QUOTA_BYTES);
    let need = primary + standby;
    let seen = format!(
        "the primary uses {}, the standby {} of its {}{}",
        size(primary),
        size(standby),
        if told.is_some() { "" } else { "(assumed) " },
        size(quota)
    );
    let fix = "raise --quota-backend-bytes of the standby's etcd, or make room there (compact, etcdctl defrag)";
    vec![match need > quota {
        false => Finding::pass(Check::Quota, seen),
        // A standby that cannot hold the primary's data can neither be filled nor take over. After the first time most of
        // it is there already.
        true if told.is_some() && facts.first && primary > quota => Finding::fail(Check::Quota, seen, fix),
        true => Finding::warn(Check::Quota, format!("{seen}, which may not be enough for both"), fix),
    }]
}

/// An alarm blocks every write, or says that data is broken.
pub fn alarms(facts: &Facts) -> Vec<Finding> {
    let mut alarms: Vec<&str> =
        facts.standby_members.iter().flat_map(|member| &member.alarms).map(String::as_str).collect();
    alarms.sort_unstable();
    alarms.dedup();
    if alarms.is_empty() {
        return vec![Finding::pass(Check::Alarms, "the standby's etcd has raised no alarm")];
    }
    let fix = if alarms.iter().any(|alarm| alarm.contains("NOSPACE")) {
        "compact it, run etcdctl defrag on every member, then etcdctl alarm disarm; or raise --quota-backend-bytes"
    } else {
        "see etcdctl alarm list and etcd's log, and repair that cluster first"
    };
    let evidence = match fix.starts_with("compact") {
        true => "the standby etcd is out of space (alarm NOSPACE) and refuses writes".to_owned(),
        false => format!("the standby's etcd has raised alarms ({})", alarms.join(", ")),
    };
    vec![Finding::fail(Check::Alarms, evidence, fix)]
}

fn size(bytes: i64) -> String {
    format!("{} MiB", (bytes.max(0) + (1 << 20) - 1) >> 20)
}

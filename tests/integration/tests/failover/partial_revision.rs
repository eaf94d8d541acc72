//! The primary is gone in the middle of a revision that is too large for one transaction of the standby.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::Phase;
use etcd_sync_integration::daemon::run_command;
use etcd_sync_operations::procedure::{Loss, State};
use etcd_sync_operations::saved::{Decoder, Said};
use etcd_sync_store::Side;
use serde_json::Value;

use super::copying::{LimitedUser, denied_at};
use super::*;

/// One revision that makes, changes and deletes, some of each in every part of it.
fn at_once(count: usize) -> Vec<Op> {
    let (settings, mut ops) = (config_keys(40), Vec::new());
    for i in 0..count {
        ops.push(Op::Put {
            key: format!("/registry/configmaps/at-once/k-{i:04}").into(),
            value: "made".into(),
            lease: 0,
        });
        if i % 40 == 7 {
            let value = Bytes::from_static(b"changed");
            ops.push(Op::Put { key: settings[2 * (i / 40)].clone(), value, lease: 0 });
            ops.push(Op::Delete { key: settings[2 * (i / 40) + 1].clone() });
        }
    }
    ops
}

/// Key by key: `None` is deleted.
fn written(ops: &[Op]) -> BTreeMap<Bytes, Option<Bytes>> {
    let one = |op: &Op| match op {
        Op::Put { key, value, .. } => (key.clone(), Some(value.clone())),
        Op::Delete { key } => (key.clone(), None),
        other => panic!("{other:?}"),
    };
    ops.iter().map(one).collect()
}

/// The keys of a list of a rejoin's report.
fn listed(report: &Value, list: &str) -> Result<Vec<String>> {
    let list = &report[list];
    let keys = list["keys"].as_array().with_context(|| format!("{list:#}"))?.iter();
    let keys: Vec<String> = keys.filter_map(|line| Some(line["key"].as_str()?.to_owned())).collect();
    ensure!(list["count"] == keys.len(), "{list:#}");
    Ok(keys)
}

#[tokio::test]
async fn a_failover_inside_a_revision_tells_which_part_is_lost_and_rejoin_finds_exactly_that() -> Result<()> {
    let primary = ClusterOptions { extra_args: vec!["--max-txn-ops=10000".to_owned()], ..ClusterOptions::default() };
    let link = Link::start(primary, ClusterOptions { auth: true, ..ClusterOptions::default() }).await?;
    for key in config_keys(40) {
        link.primary.put(&key, "first").await?;
    }
    let folder = tempfile::tempdir()?;
    let user = LimitedUser::new(&link, folder.path()).await?;
    user.may_write_all_but("/registry/configmaps/at-once/k-0450").await?;
    let daemon = user.daemon()?;
    link.await_caught_up(PATIENCE).await?;

    let ops = at_once(600);
    let txn = Txn { success: ops.clone(), ..Txn::default() };
    let revision = link.primary.client().txn(txn).await?.revision;
    denied_at(&daemon).await?;
    kill_leader(&link, &daemon).await?;
    let record = link.checkpoint().await?.context("there is a record")?;
    ensure!(record.phase == Phase::Streaming && record.revision == revision, "{record:?}");
    let applied = usize::try_from(record.offset)?;
    ensure!((100..ops.len()).contains(&applied), "it stands at change {applied} of {}", ops.len());
    link.primary.kill_all()?;

    let output = run(&link, "failover", folder.path(), &["--yes", "--accept-unchecked"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    assert_fits(&output.stdout)?;
    let said = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!(
            "everything before revision {revision} of the primary, and of that revision itself only the first {applied} changes"
        ),
        format!("the rest of revision {revision}, and what the primary acknowledged after it"),
        format!(
            "of revision {revision} of the old primary it has the first {applied} changes, of earlier ones everything"
        ),
        format!("after its revision {revision}, and of that revision all but the first {applied} changes is lost here"),
    ] {
        ensure!(said.contains(&part), "no {part:?} in {}", output.stdout);
    }
    for lie in
        [format!("everything up to revision {revision}"), "othing was lost".to_owned(), "none is known".to_owned()]
    {
        ensure!(!said.contains(&lie), "{lie:?} is said in {}", output.stdout);
    }
    let shown = json(&run(&link, "journal", folder.path(), &["-o", "json"]).await?)?;
    ensure!(shown["runs"][0]["nothingLost"] == false, "{shown:#}");
    let runs = journal(&link).await?;
    let loss: Loss = runs[0].loss.clone().context("the loss is told")?;
    ensure!((loss.applied_revision, loss.offset) == (revision, record.offset), "{loss:?}");
    ensure!(loss.known_revisions().is_none_or(|known| known >= 1), "{loss:?}");
    ensure!(runs[0].state == State::Completed && role(&link.standby, &link).await? == "primary");
    // The words are true: so many changes are here, and not one more.
    let (here, rest) = (written(&ops[..applied]), written(&ops[applied..]));
    for (key, value) in here.iter().chain(&rest) {
        let found = link.standby.get(key).await?.map(|kv| kv.value);
        let expected = match (here.get(key), value) {
            (Some(applied), _) => applied.clone(),
            (None, Some(_)) if key.starts_with(b"/registry/configmaps/at-once/") => None,
            (None, _) => Some(Bytes::from_static(b"first")),
        };
        ensure!(found == expected, "{} is not as after {applied} changes", printable(key));
    }

    link.primary.restart_all().await?;
    let back = |more: &[&str]| {
        let mut args = vec!["rejoin".to_owned()];
        args.extend(link.standby.flags(Side::Primary));
        args.extend(link.primary.flags(Side::Standby));
        args.push(format!("--journal-folder={}", folder.path().display()));
        args.extend(more.iter().map(|&flag| flag.to_owned()));
        args
    };
    let told = json(&run_command(&back(&["--dry-run", "-o", "json"])).await?)?;
    let report = &told["plan"];
    let keys = |deleted: bool| {
        let of = rest.iter().filter(move |(_, value)| value.is_none() == deleted);
        of.map(|(key, _)| printable(key)).collect::<Vec<String>>()
    };
    ensure!(listed(report, "unreplicated")? == keys(false), "{report:#}");
    ensure!(listed(report, "deletedHere")? == keys(true), "{report:#}");
    ensure!(listed(report, "onlyHere")?.is_empty(), "{report:#}");

    let file = folder.path().join("rejoin.jsonl");
    let backup = format!("--backup={}", file.display());
    let output = run_command(&back(&["--yes", &backup])).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let mut saved = Vec::new();
    let mut decoder = Decoder::default();
    for line in std::fs::read_to_string(&file)?.split_inclusive('\n') {
        if let Said::Key(kv) = decoder.line(line.as_bytes())? {
            ensure!(kv.mod_revision == revision, "{} is of revision {}", printable(&kv.key), kv.mod_revision);
            saved.push(printable(&kv.key));
        }
    }
    ensure!(saved == keys(false), "{saved:?}");
    ensure!(link.difference().await?.is_empty(), "{}", link.difference().await?);
    Ok(())
}

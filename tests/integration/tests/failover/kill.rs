//! The command is killed at every step, and called again.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use etcd_sync_core::kv::Event;
use etcd_sync_core::procedure::State;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools;

use super::*;

#[tokio::test]
async fn a_switchover_killed_at_every_step_completes_and_does_nothing_twice() -> Result<()> {
    let (link, _daemon) = in_step().await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("stopped");
    let stop = format!("--stop-writers-command=echo stopped >> {}", log.display());
    let args = command(&link, "switchover", folder.path(), &["--yes", &stop]);
    let mut kills = 0;
    for &step in etcd_sync_core::procedure::Command::Switchover.steps() {
        for ended in [false, true] {
            let attempt = open_run(&link).await?.map_or(0, |run| run.attempts.len());
            let mut program = Command::new(tools::etcd_sync()?);
            program.args(&args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = Process::spawn("etcd-sync switchover", program)?;
            let what = format!("attempt {attempt} comes to {}", step.name());
            await_until(&what, PATIENCE, || async {
                let Some(run) = open_run(&link).await? else { return process_is_done(&link).await };
                let this = run.attempts.len() > attempt;
                let there = run.last(step).is_some_and(|record| !ended || record.outcome.is_some());
                Ok((!(this && there)).then(|| format!("{run:?}")))
            })
            .await?;
            process.kill()?;
            kills += 1;
        }
    }
    // The last kill may have come too late: then the run is complete, and another one is refused.
    let output = run(&link, "switchover", folder.path(), &["--yes", &stop]).await?;
    ensure!(output.code == Some(0) || output.stderr.contains("primary already"), "{output:?}");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{output:?}\n{runs:?}");
    // Steps that take no time at the end may all be done before a kill comes.
    let until_promotion = runs[0].plan.iter().take_while(|planned| planned.step != Step::Promote).count();
    let attempts = runs[0].attempts.len();
    ensure!(attempts > 2 * until_promotion, "{kills} kills, and {attempts} attempts");
    ensure!(role(&link.standby, &link).await? == "primary");
    ensure!(link.difference().await?.is_empty(), "{}", link.difference().await?);

    let promotions = link.standby_history(1).await?;
    let promotions = promotions
        .iter()
        .filter(|event| matches!(event, Event::Put(kv) if kv.key == link.keys.role && kv.value == "primary"));
    ensure!(promotions.count() == 1, "it was promoted more than once");
    let told = told(&runs[0]);
    ensure!(told.contains(&"promote: done".to_owned()), "{told:?}");
    let shown = run(&link, "journal", folder.path(), &[&runs[0].id]).await?.stdout;
    ensure!(shown.matches("went on").count() == attempts - 1, "the journal does not tell of every call:\n{shown}");
    ensure!(shown.contains("interrupted"), "{shown}");
    assert_fits(&shown)
}

/// The run was over before it could be killed.
async fn process_is_done(link: &Link) -> Result<Option<String>> {
    let done = journal(link).await?.iter().any(|run| run.state == State::Completed);
    Ok((!done).then(|| "no run yet".to_owned()))
}

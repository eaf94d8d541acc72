//! The command is killed, and what its journal tells then.

use std::time::Instant;

use super::*;

/// SIGKILL at each stage, one after the other: nothing is lost, and the next run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_stage_loses_nothing() -> Result<()> {
    let link = diverged(3_000).await?;
    live_apart(&link).await?;
    delete_all(&link.primary.client(), &config_keys(3_000)[1_000..2_500]).await?;
    for i in 0..800 {
        link.primary.put(key(&format!("bulk-{i}")), SECRET).await?;
    }
    let before = held(&link).await?;
    let (folder, copies) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // From the second round on the very same command is given again.
    let path = |round: usize| -> PathBuf { folder.path().join(format!("{}", round.min(1))) };
    let record = || async { anyhow::Ok(link.checkpoint().await?.map(|record| (record.phase, record.revision))) };
    for round in 0..8 {
        let mut process = start(&link, copies.path(), &["--yes", &format!("--backup={}", path(round).display())])?;
        let begun = Instant::now();
        let come = async || match round {
            0 => Ok(begun.elapsed() > Duration::from_millis(100)),
            1 => Ok(path(round).exists()),
            2 => has_role(&link).await,
            3 => Ok(!link.candidates().await?.is_empty()),
            4 => Ok(link.standby.get(&link.keys.copied).await?.is_some()),
            5 => Ok(held(&link).await?.len() < before.len()),
            _ => Ok(record().await?.is_some_and(|(phase, _)| phase == Phase::Streaming)),
        };
        // A run that is over has passed the moment.
        while process.exited()?.is_none() && !come().await? {
            ensure!(begun.elapsed() < PATIENCE, "round {round}: its moment never comes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.kill()?;
        let (saved, now) = (union(folder.path())?, held(&link).await?);
        for (key, value) in &before {
            let there = now.get(key) == Some(value) || saved.contains(&(key.clone(), value.clone()));
            ensure!(there, "round {round}: {key:?} is gone, and in no file");
        }
        // What the killed one has left of its elections runs out by itself.
        link.expire_leader().await?;
        link.expire_runner().await?;
    }
    let output = rejoin(&link, &["--yes", "-o", "json", &format!("--backup={}", path(9).display())]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    let difference = link.difference().await?;
    ensure!(difference.is_empty(), "not equal:\n{difference}");
    let again = json_of(&rejoin(&link, &["--yes", "-o", "json"]).await?)?;
    ensure!(again["skipped"].is_string(), "{again}");

    // One run, and what was done once is not done again.
    let run = only_run(&link).await?;
    ensure!(run.state == State::Completed && run.attempts.len() >= 3, "{run:?}");
    let story = story(&run);
    println!("{}", run.text());
    let role = story.iter().position(|one| *one == (Step::TakeRole, "done")).context("the role was taken")?;
    let before =
        story[..role].iter().all(|(step, _)| [Step::FindDivergence, Step::Save, Step::TakeRole].contains(step));
    let behind = story[role + 1..].iter().all(|(step, _)| [Step::Converge, Step::Prove].contains(step));
    ensure!(before && behind, "{story:?}");
    ensure!(!story.iter().any(|(_, ended)| *ended == "FAILED"), "{story:?}");
    assert_eq!(std::fs::read_dir(copies.path())?.count(), 1, "one copy of one run");
    Ok(())
}

/// What a kill leaves between an action and its entry: the journal agrees with the action afterwards, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_tells_what_was_done_whatever_it_missed() -> Result<()> {
    let link = diverged(20).await?;
    live_apart(&link).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let mut args = vec!["rejoin".to_owned()];
    let (backup, copies) = (format!("--backup={}", file.display()), folder.path().join("journal"));
    args.extend(link.flags(&["--yes", &backup, &format!("--journal-folder={}", copies.display())]));
    let output = run_command_with(&args, &[("USER", "ada"), ("HOSTNAME", "bastion")], PATIENCE).await?;
    assert_eq!(output.code, Some(0), "{output:?}");
    println!("{}", output.stdout);
    for told in ["The rejoin is complete", &copies.display().to_string(), "1  find-divergence      done"] {
        ensure!(output.stdout.contains(told), "{told}: {}", output.stdout);
    }
    let wide = |line: &&str| line.chars().count() > 80 && !line.contains(&*folder.path().to_string_lossy());
    assert_eq!(output.stdout.lines().filter(wide).count(), 0, "{}", output.stdout);
    let whole = only_run(&link).await?;
    let steps = Of::Rejoin.steps();
    assert_eq!(story(&whole), steps.iter().map(|step| (*step, "done")).collect::<Vec<_>>());
    assert_eq!((whole.state, &*whole.attempts[0].by), (State::Completed, "ada@bastion"));
    let words = |step| whole.outcome(step).map(|outcome| outcome.what().to_owned()).unwrap_or_default();
    ensure!(
        words(Step::FindDivergence).contains("6 written only here, 1 deleted only here, 1 only here for"),
        "{whole:?}"
    );
    assert_eq!(words(Step::Save), format!("8 values saved in {}", file.display()));
    ensure!(whole.plan[1].what.contains(&*file.display().to_string()), "{:?}", whole.plan);
    ensure!(link.standby.get(&link.keys.open_run).await?.is_none(), "it is open still");
    let record = link.standby.get(&link.keys.rejoin).await?.context("no record")?;
    let finished = Rejoining::decode(&record.value)?;
    let begun = Rejoining { done: false, ..finished.clone() };
    let cut = |keep: usize| {
        let mut run = Run { state: State::Open, ..whole.clone() };
        run.steps.truncate(keep);
        let last = run.steps.last_mut().expect("it has steps");
        (last.ended_ms, last.outcome) = (None, None);
        run
    };
    let state = |output: &Output| anyhow::Ok(json_of(output)?["run"]["state"].clone());

    // Killed when everything was done.
    leave_open(&link, &cut(5)).await?;
    let dry = rejoin(&link, &["--dry-run", "-o", "json"]).await?;
    ensure!(dry.code == Some(0) && state(&dry)? == "open", "{dry:?}");
    assert_eq!(only_run(&link).await?, cut(5), "a dry run wrote");
    let output = rejoin(&link, &["--yes", "-o", "json"]).await?;
    ensure!(output.code == Some(0) && state(&output)? == "completed", "{output:?}");
    let run = only_run(&link).await?;
    assert_eq!((run.outcome(Step::Prove), run.steps.len()), (whole.outcome(Step::Prove), 6));

    // Killed when the role had just changed.
    link.standby.put(&link.keys.rejoin, begun.encode()).await?;
    leave_open(&link, &cut(3)).await?;
    let output = rejoin(&link, &["--yes", "-o", "json"]).await?;
    ensure!(output.code == Some(0) && state(&output)? == "completed", "{output:?}");
    let run = only_run(&link).await?;
    let mut expected = vec![(Step::FindDivergence, "done"), (Step::Save, "done"), (Step::TakeRole, "-")];
    expected.extend(steps[2..].iter().map(|step| (*step, "done")));
    assert_eq!(story(&run), expected);
    ensure!(run.outcome(Step::TakeRole).is_some_and(|role| role.what().contains("interrupted")), "{run:?}");

    // Given up then: another run tells what it finds. Only the new primary's loss would leave somebody here.
    link.standby.put(&link.keys.rejoin, begun.encode()).await?;
    leave_open(&link, &cut(4)).await?;
    let mut abandon = vec!["journal".to_owned()];
    abandon.extend(link.flags(&["--abandon"]));
    let given_up = run_command(&abandon).await?;
    ensure!(given_up.code == Some(0) && given_up.stdout.contains("completes the copy"), "{given_up:?}");
    let output = rejoin(&link, &["--yes", "-o", "json"]).await?;
    ensure!(output.code == Some(0) && state(&output)? == "completed", "{output:?}");
    let runs = journal(&link).await?;
    assert_eq!((runs.len(), runs[0].state), (2, State::Abandoned));
    assert_eq!(story(&runs[1]), story(&whole));
    assert_eq!(runs[1].outcome(Step::Save), whole.outcome(Step::Save));

    // Another command's run is left alone.
    let other = Run::new("zzz".into(), Of::Switchover, &whole.link, Vec::new());
    link.standby.put(&link.keys.rejoin, begun.encode()).await?;
    leave_open(&link, &other).await?;
    let output = rejoin(&link, &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("run zzz of `etcd-sync switchover`"), "{output:?}");
    assert_eq!(journal(&link).await?.pop(), Some(other));
    Ok(())
}

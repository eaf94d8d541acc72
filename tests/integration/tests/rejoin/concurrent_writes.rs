//! Both clusters are in use meanwhile.

use super::*;

/// Far more deletions than a resync may make without a word, and writes on the new primary all the while.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_is_deleted_while_the_new_primary_is_in_use() -> Result<()> {
    let link = diverged(1_000).await?;
    delete_all(&link.primary.client(), &config_keys(400)).await?;
    for i in 0..50 {
        link.standby.put(key(&format!("mine-{i:02}")), SECRET).await?;
    }
    // Long past: what the new primary had when it was promoted cannot be asked any more.
    link.primary.compact(link.primary.revision().await?).await?;
    let planned = json_of(&rejoin(&link, &["--dry-run", "-o", "json"]).await?)?;
    assert_eq!(planned["plan"]["onlyHere"]["count"], 400);
    assert_eq!(planned["plan"]["onlyHere"]["keys"][0]["origin"], "unknown");
    let text = rejoin(&link, &["--dry-run", "--limit=3"]).await?.stdout;
    ensure!(text.contains("  … and 397 more") && text.contains("never on the new primary: 50"), "{text}");

    let stop = Arc::new(AtomicBool::new(false));
    let (ended, client) = (Arc::clone(&stop), link.primary.client());
    let live = tokio::spawn(async move {
        let mut writes = 0u64;
        while !ended.load(Ordering::Relaxed) {
            let key = Bytes::from(format!("/registry/configmaps/team-a/live-{:02}", writes % 40));
            let op = match writes % 7 {
                0 => Op::Delete { key },
                _ => Op::Put { key, value: format!("{SECRET} {writes}").into(), lease: 0 },
            };
            if client.txn(Txn { success: vec![op], ..Txn::default() }).await.is_ok() {
                writes += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        writes
    });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let before = held(&link).await?;
    let output = rejoin(&link, &[&format!("--backup={}", file.display()), "--yes", "-o", "json"]).await?;
    stop.store(true, Ordering::Relaxed);
    ensure!(live.await? > 10, "nobody wrote");
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    let said = json_of(&output)?;
    assert_eq!((&said["result"]["saved"], &said["result"]["proof"]["complete"]), (&450.into(), &true.into()));
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    link.await_equal(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    ensure!(read(&file) == lost(&before, &held(&link).await?), "not exactly what is lost is saved");
    Ok(())
}

/// The clients of the old primary go on writing: whatever they were told is written is there, or in a file.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_disappears_unsaved() -> Result<()> {
    let link = diverged(2_000).await?;
    live_apart(&link).await?;
    let (stop, clients) = clients(&link)?;
    let folder = tempfile::tempdir()?;
    let before = held(&link).await?;
    let backup = format!("--backup={}", folder.path().join("saved").display());
    let output = rejoin(&link, &[&backup, "--yes", "-o", "json"]).await?;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = clients.await?;
    println!("{} keys written meanwhile", acknowledged.len());
    let said = json_of(&output)?;
    ensure!(said["error"].is_null() && said["result"]["laterSaved"].as_u64() > Some(0), "{said}");
    assert_eq!(gone(&link, folder.path(), &acknowledged).await?, Vec::<Bytes>::new(), "acknowledged meanwhile");
    let untouched = before.into_iter().filter(|(key, _)| !acknowledged.contains_key(key)).collect();
    assert_eq!(gone(&link, folder.path(), &untouched).await?, Vec::<Bytes>::new(), "acknowledged before");
    Ok(())
}

/// Clients that write to the old primary until they are stopped. Gives what was acknowledged last of each key.
fn clients(link: &Link) -> Result<(Arc<AtomicBool>, tokio::task::JoinHandle<Held>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, client) = (Arc::clone(&stop), link.standby.client());
    let clients = tokio::spawn(async move {
        let (mut last, mut count) = (Held::new(), 0u64);
        while !ended.load(Ordering::Relaxed) {
            count += 1;
            let name = match count % 3 {
                0 => format!("late-{count}"),
                _ => format!("settings-{:04}", count % 2_000),
            };
            let (key, value) = (Bytes::from(key(&name)), Bytes::from(format!("{SECRET} late {count}")));
            let put = Op::Put { key: key.clone(), value: value.clone(), lease: 0 };
            if client.txn(Txn { success: vec![put], ..Txn::default() }).await.is_ok() {
                last.insert(key, value);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        last
    });
    Ok((stop, clients))
}

/// Those that are neither there nor in a whole file of the folder.
async fn gone(link: &Link, folder: &Path, values: &Held) -> Result<Vec<Bytes>> {
    let (saved, now) = (union(folder)?, held(link).await?);
    let there =
        |key: &Bytes, value: &Bytes| now.get(key) == Some(value) || saved.contains(&(key.clone(), value.clone()));
    Ok(values.iter().filter(|(key, value)| !there(key, value)).map(|(key, _)| key.clone()).collect())
}

/// What is written meanwhile is saved, or not overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_saved_stops_the_copy() -> Result<()> {
    let link = diverged(2_000).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("saved");
    // No name is left for what is written meanwhile.
    let names = || {
        (1..=99).map(|number| {
            format!("{}.later{}", path.display(), if number == 1 { String::new() } else { number.to_string() })
        })
    };
    names().try_for_each(|name| std::fs::write(name, ""))?;
    let (stop, clients) = clients(&link)?;
    let backup = format!("--backup={}", path.display());
    let failed = rejoin(&link, &[&backup, "--yes"]).await?;
    ensure!(failed.code == Some(2) && failed.stderr.contains("cannot be saved, so the copy was stopped"), "{failed:?}");
    ensure!(link.candidates().await?.is_empty(), "the synchronizer was not ended");
    names().try_for_each(std::fs::remove_file)?;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = clients.await?;
    let output = rejoin(&link, &[&backup, "--yes"]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert_eq!(gone(&link, folder.path(), &acknowledged).await?, Vec::<Bytes>::new());
    Ok(())
}

/// Whoever stops the command has what was written until then in a whole file.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_meanwhile_is_saved_when_the_command_is_stopped() -> Result<()> {
    // Enough that the copy is not over before it waits.
    let link = diverged(20_000).await?;
    let (folder, copies) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = folder.path().join("saved");
    let mut process = start(&link, copies.path(), &["--yes", &format!("--backup={}", path.display())])?;
    await_role(&link).await?;
    // The copy waits for it.
    link.primary.pause_member(0)?;
    let (stop, clients) = clients(&link)?;
    let later = folder.path().join("saved.later");
    await_true("something is saved", PATIENCE, || async { Ok(later.exists()) }).await?;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = clients.await?;
    process.signal(Signal::SIGTERM)?;
    let status = process.wait(PATIENCE).await?;
    link.primary.resume_member(0)?;
    ensure!(status.code() == Some(2), "{status}");
    let saved = read(&later);
    for (key, value) in &acknowledged {
        ensure!(saved.get(key) == Some(value), "{key:?} is not saved");
    }
    let run = only_run(&link).await?;
    ensure!(run.note(Step::Converge).is_some_and(|note| note["laterSavedIn"].is_string()), "{run:?}");
    Ok(())
}

//! `etcd-sync dns verify` and `etcd-sync dns switch`.

use std::sync::Mutex;

use anyhow::{Context, Result};
use etcd_sync_operations::dns::{Answer, Verdict};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, DnsAction, DnsCommandConfig};
use serde_json::{Value, json};
use tracing::info;

use crate::operations::dns::{Dns, Stale, Switched};
use crate::output::typed;
use crate::output::{Outcome, print, print_json, refused};

/// Asks where the name points, or points it at the target and then asks.
pub async fn run(_: Config, command: DnsCommandConfig) -> Result<Outcome> {
    let dns = Dns::new(&command.dns)?.context("--domain is missing")?;
    match command.action {
        DnsAction::Verify => verify(&dns, command.output).await,
        DnsAction::Switch { dry_run, yes } => switch(&dns, command.output, dry_run, yes).await,
    }
}

async fn verify(dns: &Dns, output: TableOutput) -> Result<Outcome> {
    let (answers, stale) = wait(dns).await;
    let report = dns.report(&answers);
    match output {
        TableOutput::Table => print(&report.text()),
        TableOutput::Json => print_json(&report.json()),
    }
    if let Some(stale) = stale {
        return Ok(refused(&stale.to_string()));
    }
    Ok(outcome(report.verdict()))
}

async fn switch(dns: &Dns, output: TableOutput, dry_run: bool, yes: bool) -> Result<Outcome> {
    let table = output == TableOutput::Table;
    let now = match dns.now().await {
        Ok(now) => now,
        Err(error) => {
            // It can still be done by hand.
            let change = dns.describe(None);
            match table {
                true => print(&format!("{}\n", change.text())),
                false => print_json(&json!({ "change": change.json(), "error": error.to_string() })),
            }
            return Err(error.into());
        }
    };
    let change = dns.describe(now.as_ref());
    if table {
        print(&format!("{}\n", change.text()));
    }
    let tell =
        |refused: Option<&str>, error: Option<&anyhow::Error>, switched: Option<&Switched>, verified: Option<Value>| {
            if !table {
                print_json(&json!({
                    "change": change.json(),
                    "refused": refused,
                    "error": error.map(|error| format!("{error:#}")),
                    "switched": switched.map(Switched::json),
                    "verified": verified,
                }));
            }
        };
    if dry_run {
        tell(None, None, None, None);
        return Ok(Outcome::Success);
    }
    let reached = now.as_ref().is_some_and(|now| now.addresses == dns.target().addresses);
    if !reached && !dns.is_manual() {
        let name = &dns.target().name;
        let question = format!("Type the name ({name}) to change it, anything else to leave it: ");
        if let Err(reason) = typed(&question, name, yes, output)? {
            tell(Some(&reason), None, None, None);
            return Ok(refused(&format!("nothing was changed: {reason}")));
        }
    }
    let switched = match dns.switch().await {
        Ok(switched) => switched,
        Err(error) => {
            let error = anyhow::Error::from(error);
            tell(None, Some(&error), None, None);
            return Err(error);
        }
    };
    // What people have to do stands above already.
    if table && !matches!(switched, Switched::Manual(_)) {
        print(&format!("{}\n", switched.text(dns.target())));
    }
    let (answers, stale) = wait(dns).await;
    let report = dns.report(&answers);
    if table {
        print(&report.text());
    }
    tell(None, None, Some(&switched), Some(report.json()));
    if let Some(stale) = stale {
        return Ok(refused(&stale.to_string()));
    }
    Ok(outcome(report.verdict()))
}

/// Waits until everybody says the target; a line of the log tells whenever something changes.
async fn wait(dns: &Dns) -> (Vec<Answer>, Option<Stale>) {
    let last = Mutex::new(None);
    let progress = |answers: &[Answer]| {
        let verdict = dns.target().verdict(answers);
        let judged: Vec<_> = answers.iter().map(|answer| dns.target().judge(answer)).collect();
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if verdict != Verdict::Good && last.as_ref() != Some(&judged) {
            info!("{}", dns.report(answers).summary());
        }
        *last = Some(judged);
    };
    match dns.verify(&progress).await {
        Ok(answers) => (answers, None),
        Err(mut stale) => (std::mem::take(&mut stale.answers), Some(stale)),
    }
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Good => Outcome::Success,
        Verdict::Silent | Verdict::Old => Outcome::Differences,
    }
}

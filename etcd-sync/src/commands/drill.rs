//! `etcd-sync drill`: rehearses a switch and changes nothing that serves users.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use etcd_sync_operations::drill::{Drill, Part, PartName};
use etcd_sync_operations::procedure::{Command, plan};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, DrillConfig};
use etcd_sync_program::now_ms;

use crate::operations::drill::{dns, kinds, restart};
use crate::operations::procedure::look::look;
use crate::operations::procedure::{Equipment, intent};
use crate::operations::readiness::For;
use crate::output::{Outcome, print, print_json};

/// Rehearses part by part, prints and writes the report. Exit code 1: a switch may not be expected to work.
pub async fn run(config: Config, options: DrillConfig) -> Result<Outcome> {
    let procedure = &options.procedure;
    let equipment = Equipment::new(&config, procedure).await?;
    let context = equipment.context(&config, procedure);
    let at_ms = now_ms();
    let began = Instant::now();
    let looked = look(&context, For::Drill).await?;
    let mut parts = vec![Part {
        name: PartName::Preflight,
        took_ms: began.elapsed().as_millis() as u64,
        trials: looked.findings.iter().map(Into::into).collect(),
        skipped: None,
    }];
    parts.push(kinds(&context, looked.report.as_ref()).await);
    parts.extend(dns(&context, options.name.as_deref()).await?);
    parts.push(restart(&context).await);
    let planned = plan(&intent(&config, procedure, Command::Switchover));
    let plan = planned.into_iter().map(|planned| format!("{}: {}", planned.step.name(), planned.what)).collect();
    let drill = Drill { link: config.link.clone(), by: procedure.by.clone(), at_ms, parts, plan };
    // First: a file that cannot be written must not cost the report.
    match procedure.output {
        TableOutput::Table => print(&drill.text()),
        TableOutput::Json => print_json(&drill.json()),
    }
    if let Some(file) = &options.markdown {
        write(file, &drill.markdown())?;
    }
    if let Some(file) = &options.json {
        write(file, &format!("{:#}\n", drill.json()))?;
    }
    Ok(if drill.ready() { Outcome::Success } else { Outcome::Differences })
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write the report {}", file.display()))
}

//! Nobody writes to the primary any more.

use std::time::Duration;

use anyhow::Result;
use etcd_sync_operations::procedure::Outcome;
use etcd_sync_operations::text::{redacted_command, wrap};
use etcd_sync_program::args::TableOutput;
use tracing::info;

use crate::operations::procedure::Context;
use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::quiet::{Quiet, await_quiet};
use crate::operations::shell;
use crate::output::{Answer, print, typed};

/// What a person does on each control-plane node; kubelet stops the pod when its manifest is gone.
const BY_HAND: &str =
    "mkdir -p /etc/kubernetes/stopped && mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/stopped/";

/// Has the writers stopped, and waits until they are.
pub async fn stop_writers(
    context: &Context<'_>,
    command: Option<&str>,
    limit: Duration,
    journal: &mut Journal,
) -> Result<Outcome> {
    match command {
        // In every attempt: somebody may have started them again since.
        Some(command) => {
            let variables = [("ETCD_SYNC_RUN", journal.run().id.clone())];
            if let Err(why) = shell::run(command, "stop-writers-command", &[], &variables, limit).await {
                let command = redacted_command(command);
                return Ok(Outcome::Failed(format!("{command} {why}: fix it, or stop the API servers by hand")));
            }
        }
        None => {
            let text = "Stop everything that writes to the primary's etcd now. On each of its control-plane nodes:";
            let rest = "or close its etcd's port 2379 to all but this command and the synchronizer. This command goes on by itself as soon as nothing is written any more.";
            let text =
                format!("{}        {BY_HAND}\n{}", wrap(text, "      ", "      "), wrap(rest, "      ", "      "));
            match context.procedure.output {
                TableOutput::Table => print(&text),
                TableOutput::Json => eprint!("{text}"),
            }
            if !context.procedure.yes
                && let Answer::No(why) =
                    typed("Type stopped when they are: ", "stopped", false, context.procedure.output)?
            {
                return Ok(Outcome::Failed(why.to_string()));
            }
        }
    }
    let api = context.api_servers.primary.as_ref();
    let prefixes: Vec<&str> = context.scope.kubernetes_prefixes().collect();
    let quiet = await_quiet(&context.pair.primary, api, &prefixes, command.is_some(), limit, |last| {
        info!("the primary is still written to: {last}")
    })
    .await?;
    Ok(match quiet {
        Quiet::At(revision) => {
            Outcome::Done(format!("nothing is written to the primary any more; its last revision is {revision}"))
        }
        Quiet::Not(unquiet) => Outcome::Failed(unquiet.text(limit)),
    })
}

//! `etcd-sync accept`: shows what a paused link asks and what a yes would take away, saves that, and gives the answer.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result, bail};
use etcd_sync_core::link::history::RaftMark;
use etcd_sync_core::link::question::{Acceptance, Question, Topic};
use etcd_sync_core::link::state::cluster_id_text;
use etcd_sync_operations::accept::{Gave, Given, Next, Plan, Refusal, gave, giving, is_same, may_answer};
use etcd_sync_operations::saved::{FORMAT, Head, What, file_name};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{AcceptConfig, BackupPlace, Config};
use etcd_sync_program::now_ms;
use etcd_sync_store::WriteError;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::operations::accept::Look;
use crate::operations::saved_file::Saving;
use crate::output::{Answer, Outcome, or_refused, print, print_json, refuse, refused, typed};

/// How often the answer is written where the outcome is unknown or another replica has asked again, and the pause in between.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// A running synchronizer looks every five seconds whether it may go on, and then reads both clusters' histories again.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);

/// Shows, asks, saves, answers, waits. Exit code 1: refused, or not confirmed.
pub async fn run(config: Config, options: AcceptConfig) -> Result<Outcome> {
    let command = Command { pair: config.pair()?, config: &config, options: &options };
    let (mut plan, mut given) = (None, Given::default());
    let outcome = command.answer(&mut plan, &mut given).await;
    command.end(plan.as_ref(), &given, outcome)
}

struct Command<'a> {
    pair: Pair,
    config: &'a Config,
    options: &'a AcceptConfig,
}

/// What is asked, and where the record was when it was read.
struct Asked {
    record: Record,
    question: Question,
    mod_revision: i64,
    /// The primary as it was before anything was compared.
    mark: Option<RaftMark>,
}

impl Command<'_> {
    async fn answer(&self, shown: &mut Option<Plan>, given: &mut Given) -> Result<()> {
        if self.options.backup == Some(BackupPlace::Stdout) && self.options.output == TableOutput::Json {
            return refuse(Refusal::TwoOnStdout);
        }
        let saves_to_stdout = self.options.backup == Some(BackupPlace::Stdout) && !self.options.dry_run;
        if saves_to_stdout && std::io::stdout().is_terminal() {
            return refuse(Refusal::Terminal);
        }
        let Some(asked) = self.ask().await? else {
            self.show("Nothing is asked: this link waits for no answer.\n");
            return Ok(());
        };
        let encryption = self.config.encryption()?;
        let look = self.look(&asked, &encryption).await?;
        let limit = self.options.limit.unwrap_or(usize::MAX);
        let plan = shown.insert(Plan::new(&self.config.link, asked.question.clone(), now_ms()));
        let earlier = asked.record.acceptance().ok().flatten();
        let good = earlier.as_ref().filter(|answer| answer.is_good(&asked.question.primary, plan.now_ms));
        plan.answered =
            good.filter(|answer| is_answer(answer, &asked.question)).map(|answer| (answer.given_ms, answer.by.clone()));
        if let Some(look) = &look {
            plan.compared = true;
            look.losses(async |standby, loss| {
                plan.add(&self.config.scope, standby, loss, limit);
                Ok(())
            })
            .await?;
        }
        self.show(&plan.text(limit));
        if self.options.dry_run {
            return Ok(());
        }
        if self.options.in_pod && self.options.backup.is_none() && plan.count() > 0 {
            return refuse(Refusal::InPod);
        }
        let expected = plan.confirmation();
        let question = format!("Type {expected} to accept this, anything else to leave replication paused: ");
        if let Answer::No(why) = typed(&question, &expected, self.options.yes, self.options.output)? {
            return refuse(why);
        }
        if let Some(look) = look.as_ref().filter(|_| plan.count() > 0) {
            self.save(look, plan, given).await?;
        }
        plan.now_ms = now_ms();
        let acceptance = plan.acceptance(asked.mark, earlier.as_ref(), &self.options.by);
        self.give(&asked, &acceptance).await?;
        given.next = Some(self.follow(&acceptance, &asked.question).await);
        Ok(())
    }

    /// Reads what is asked; `None`: nothing is.
    async fn ask(&self) -> Result<Option<Asked>> {
        let Pair { primary, standby, keys } = &self.pair;
        let record = Record::read(standby, keys).await.context("the standby's record cannot be read")?;
        may_answer(record.role.as_ref().map(|role| &role.value[..]), record.checkpoint.is_some()).or_else(refuse)?;
        let (Some(question), Some(kv)) = (record.question()?, &record.question) else { return Ok(None) };
        let mod_revision = kv.mod_revision;
        let reading = primary.raft_reading().await.context("the primary cannot be read")?;
        let identity = primary.identity().await.context("the primary cannot be read")?;
        let found = cluster_id_text(identity.cluster_id);
        if found != question.primary {
            return refuse(Refusal::OtherPrimary { asked: question.primary, found });
        }
        Ok(Some(Asked { record, question, mod_revision, mark: reading.as_ref().map(RaftMark::of) }))
    }

    /// The comparison, where there may be something to lose.
    async fn look<'b>(&'b self, asked: &Asked, encryption: &'b etcd_sync_kms::Encryption) -> Result<Option<Look<'b>>> {
        // A link without a checkpoint has mirrored nothing yet.
        let Some(checkpoint) = asked.record.checkpoint()? else { return Ok(None) };
        if asked.question.topic == Topic::StandbyRestored {
            return Ok(None);
        }
        let Asked { record, question, .. } = asked;
        Ok(Some(Look::begin(&self.pair, &self.config.scope, encryption, record, &checkpoint, question).await?))
    }

    /// Saves every value that goes, as it is now.
    async fn save(&self, look: &Look<'_>, plan: &Plan, given: &mut Given) -> Result<()> {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let identity = self.pair.standby.identity().await?;
        let place = self
            .options
            .backup
            .clone()
            .unwrap_or_else(|| BackupPlace::File(PathBuf::from(file_name(What::Accept, &self.config.link, &at))));
        let head = Head {
            etcd_sync_saved_keys: FORMAT,
            what: What::Accept,
            link: self.config.link.clone(),
            cluster: cluster_id_text(identity.cluster_id),
            revision: identity.revision,
            at,
            keys: plan.count(),
        };
        let mut file = match &place {
            BackupPlace::File(path) => Saving::create(path, &head)?,
            BackupPlace::Stdout => Saving::to_stdout(&head)?,
        };
        let mut saved = 0;
        look.losses(async |standby, _| {
            saved += 1;
            file.add(standby)
        })
        .await
        .context("the values cannot be saved: nothing was accepted")?;
        file.finish()?;
        given.saved = saved;
        given.saved_in = Some(match place {
            BackupPlace::File(path) => path.display().to_string(),
            BackupPlace::Stdout => "what was written to stdout".to_owned(),
        });
        Ok(())
    }

    /// Writes the answer to the question that was shown, unless the cluster is no standby any more.
    async fn give(&self, asked: &Asked, acceptance: &Acceptance) -> Result<()> {
        let Pair { standby, keys, .. } = &self.pair;
        let (mut question, mut ran) = (asked.mod_revision, asked.record.checkpoint.is_some());
        for _ in 0..TRIES {
            let error = match standby.txn(giving(keys, ran, question, acceptance)).await {
                Ok(reply) => match gave(&reply, &asked.question).or_else(refuse)? {
                    Gave::Yes => return Ok(()),
                    Gave::AskedAgain { question: again, ran: now } => {
                        (question, ran) = (again, now);
                        continue;
                    }
                },
                // Written twice it is the same answer, if nobody has used it in between: then the question is gone.
                Err(WriteError::NotApplied(error) | WriteError::Unknown(error)) => error,
            };
            if !error.is_transient() {
                return Err(error).context("the answer cannot be written");
            }
            sleep(PAUSE).await;
        }
        bail!("the answer could not be written: nothing was accepted, or see `etcd-sync status`; run it again")
    }

    /// Waits until a synchronizer has taken the answer up.
    async fn follow(&self, acceptance: &Acceptance, question: &Question) -> Next {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What cannot be read is read again: the answer is given.
            if let Ok(record) = Record::read(&self.pair.standby, &self.pair.keys).await {
                if record.candidates.is_empty() {
                    return Next::NoSynchronizer;
                }
                let given = record.acceptance().ok().flatten();
                let is_used = given.is_none_or(|given| given.given_ms != acceptance.given_ms);
                match record.question().ok().flatten() {
                    Some(now) if !is_same(&now, question) => return Next::AsksAgain(now.topic),
                    Some(_) if !is_used => {}
                    _ => return Next::Continues,
                }
            }
            if Instant::now() > deadline {
                return Next::Waits;
            }
            sleep(LOOK).await;
        }
    }

    /// What people read goes to stderr where stdout is for the saved values.
    fn show(&self, text: &str) {
        match (self.options.output, &self.options.backup) {
            (TableOutput::Json, _) => {}
            (TableOutput::Table, Some(BackupPlace::Stdout)) => eprint!("{text}"),
            (TableOutput::Table, _) => print(text),
        }
    }

    /// Shows what became of it.
    fn end(&self, plan: Option<&Plan>, given: &Given, outcome: Result<()>) -> Result<Outcome> {
        let tell = |refused: Option<&str>, error: Option<&Error>| {
            if self.options.output == TableOutput::Json {
                let error = error.map(|error| format!("{error:#}"));
                let (plan, result) = (plan.map(Plan::json), given.json());
                print_json(&json!({ "plan": plan, "refused": refused, "error": error, "result": result }));
            }
        };
        match outcome {
            Ok(()) => {
                tell(None, None);
                if given.next.is_some() {
                    self.show(&format!("\n{}", given.text()));
                }
                Ok(Outcome::Success)
            }
            Err(error) => {
                if !crate::output::is_refusal(&error) {
                    tell(None, Some(&error));
                }
                or_refused(error, |refusal| {
                    tell(Some(&refusal.to_string()), None);
                    refused(&format!("nothing was accepted: {refusal}"))
                })
            }
        }
    }
}

fn is_answer(answer: &Acceptance, question: &Question) -> bool {
    answer.evidence_on(question.topic).any(|evidence| evidence == question.evidence)
}

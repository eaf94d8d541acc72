//! Why a run does not begin, or does not go on. Each text says what to do.

use super::{Command, Missing, Step};

/// What must be typed to go on although the primary is alive.
pub const DESPITE_LIVE_PRIMARY: &str = "lose its writes";

/// Why a run does not begin, or does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The standby has no record of the link.
    #[error("nothing was ever synchronized into this standby: check --standby-endpoints and --link")]
    NeverSynchronized,
    /// The standby was promoted before.
    #[error(
        "this cluster is primary already{}: to switch back, make the other cluster its standby with `etcd-sync rejoin`, then run \
         this command there, with the endpoints exchanged",
        by_run(run)
    )]
    IsPrimary {
        /// The run that promoted it, if one is on record.
        run: Option<String>,
    },
    /// The standby is a primary that handed over.
    #[error(
        "this cluster is demoted: run {run} handed over from it to the other one; check --primary-endpoints and --standby-endpoints"
    )]
    IsDemoted {
        /// The run that marked it.
        run: String,
    },
    /// The role is one that this program never writes.
    #[error("the role of this cluster is \"{found}\", which this program never writes: find out who wrote it")]
    UnknownRole {
        /// It, for people.
        found: String,
    },
    /// The standby has only a part of the data.
    #[error(
        "the first sync was never complete: the standby holds only a part of what the primary had, and no flag makes it \
         more; bring the primary back, or restore a backup of its etcd"
    )]
    FirstSync,
    /// The standby is between two states.
    #[error(
        "a resync was under way: the standby is not consistent with any single revision of the primary, and it is not known \
         what is missed; if there is no other option, give --accept-unchecked"
    )]
    Resync,
    /// A failover is for a primary that is gone.
    #[error(
        "{alive}, and what it takes from now on would be lost: use `etcd-sync switchover`, or stop the primary; to go on all \
         the same, give --despite-live-primary \"{DESPITE_LIVE_PRIMARY}\""
    )]
    Alive {
        /// What shows it.
        alive: Alive,
    },
    /// The primary came back while the run was under way.
    #[error("{alive}: stop the primary, or give this run up (`etcd-sync journal --abandon`)")]
    AliveAgain {
        /// What shows it.
        alive: AliveAgain,
    },
    /// Nobody knows whether keys are missed.
    #[error("{unknown}; to go on without knowing, give --accept-unchecked")]
    Unchecked {
        /// Why not.
        unknown: Unknown,
    },
    /// The operator was asked about it and did not agree.
    #[error("{unknown}: {why}")]
    UncheckedDeclined {
        /// Why nobody knows.
        unknown: Unknown,
        /// Why there was no agreement.
        why: String,
    },
    /// Keys are missed.
    #[error("keys missed: {}{why}", missing.missed)]
    Missed {
        /// What is missed, and what would be destroyed.
        missing: Box<Missing>,
        /// What was given in their place.
        why: MissedWhy,
    },
    /// There is no such check.
    #[error("--accept: there is no check {name}; the checks are {known}")]
    UnknownCheck {
        /// The name given.
        name: String,
        /// All names.
        known: String,
    },
    /// Checks of the preflight failed.
    #[error("the preflight failed ({}): fix that first{}{}", failed.join(", "), accept(failed, *acceptable), if_gone(*silent))]
    Preflight {
        /// The names of the checks.
        failed: Vec<&'static str>,
        /// The operator may accept all of them.
        acceptable: bool,
        /// The primary does not answer a command that needs it.
        silent: bool,
    },
    /// The comparison failed before a switchover.
    #[error("the preflight failed (check): {finding}{}", if_gone(*silent))]
    Comparison {
        /// What it found.
        finding: String,
        /// The primary does not answer.
        silent: bool,
    },
    /// Another command's run is not finished.
    #[error("{}", other_command(run, *command, holder.as_deref()))]
    OtherCommand {
        /// It.
        run: String,
        /// Its command.
        command: Command,
        /// Who carries it out at this moment.
        holder: Option<String>,
    },
    /// The run was begun with other flags.
    #[error(
        "run {run} is not finished, and it was begun with other flags: they change its step {}; give the flags it was begun with \
         (`etcd-sync journal {run}` shows its plan), or give it up with `etcd-sync journal --abandon`",
        step.name()
    )]
    OtherFlags {
        /// The run.
        run: String,
        /// The first step that would be another one.
        step: Step,
    },
    /// The synchronizer started over since everything was compared.
    #[error(
        "the synchronizer copies everything again: the standby is not consistent with any single revision of the primary; give \
         the same command again when `etcd-sync status` says streaming"
    )]
    CopiesAgain,
    /// The primary took a write after everything was compared.
    #[error("the primary was written to again ({what}): stop its API servers")]
    WrittenAgain {
        /// The key and its revision.
        what: String,
    },
    /// A key vanished from the standby after everything was compared.
    #[error(
        "{key} was deleted on the standby since everything was compared: give the same command again when the synchronizer has \
         put it back"
    )]
    DeletedSince {
        /// The key.
        key: String,
    },
}

/// What shows that the primary is alive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alive {
    /// It answers this command.
    #[error("the primary answers")]
    Answers,
    /// Something answers, but not this command.
    #[error("it is not known whether the primary is alive ({0})")]
    Unknown(String),
    /// The synchronizer has a connection.
    #[error(
        "the synchronizer still receives from the primary, although this command cannot reach it: the primary is alive"
    )]
    Receiving,
}

/// What shows that the primary came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliveAgain {
    /// It answers this command.
    #[error("the primary answers again")]
    Answers,
    /// Something answers, but not this command.
    #[error("the primary answers again, but not to this command ({0})")]
    Unknown(String),
    /// The synchronizer has a connection.
    #[error("the synchronizer is receiving from the primary again")]
    Receiving,
}

/// Why nobody knows whether keys are missed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// There is no comparison.
    #[error("nobody knows whether keys are missed on this standby (--monitor URL names the monitor that may know)")]
    NoVerdict,
    /// The last comparison did not get to its end.
    #[error("{0} differences were not examined")]
    Unproved(u64),
    /// The last comparison says little about now.
    #[error("the monitor's last comparison is too old")]
    TooOld,
}

/// What was given in place of the number of missed keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissedWhy {
    /// Nothing.
    NotAccepted,
    /// Another number.
    OtherNumber(u64),
    /// `--accept check`, which does not cover them.
    NotCovered(u64),
    /// The answer to a question, in words.
    Declined(String),
}

impl std::fmt::Display for MissedWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MissedWhy::NotAccepted => Ok(()),
            MissedWhy::OtherNumber(accepted) => write!(f, ", and --accept-missing says {accepted}"),
            MissedWhy::NotCovered(missed) => {
                write!(f, "; --accept does not cover missed keys: give --accept-missing {missed}")
            }
            MissedWhy::Declined(why) => write!(f, "; {why}"),
        }
    }
}

fn by_run(run: &Option<String>) -> String {
    run.as_ref().map(|run| format!(" (run {run})")).unwrap_or_default()
}

fn accept(failed: &[&str], acceptable: bool) -> String {
    if acceptable { format!("; if you accept the risk, give --accept {}", failed.join(",")) } else { String::new() }
}

fn if_gone(silent: bool) -> &'static str {
    if silent { "; if the primary is gone: `etcd-sync failover`" } else { "" }
}

fn other_command(run: &str, command: Command, holder: Option<&str>) -> String {
    let run = format!("run {run} of `etcd-sync {}`", command.name());
    match holder {
        Some(who) => format!(
            "{who} carries {run} out at this moment, or did until a few seconds ago: leave it to that command, or stop it first"
        ),
        None => format!("{run} is not finished: go on with it, or give it up with `etcd-sync journal --abandon`"),
    }
}

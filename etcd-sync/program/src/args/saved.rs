//! The flags of `prune` and `restore`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::ConfirmArgs;
use super::switch::Switch;
use super::values::{duration, key, number, some_text};

/// `etcd-sync prune`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Selection (what is given must all fit; of a list, one entry must)")]
pub struct PruneArgs {
    /// Only keys that begin with this. May be repeated
    #[arg(long, value_name = "PREFIX", value_parser = key)]
    pub below: Vec<Bytes>,

    /// Only keys in these namespaces, a namespace's own object included, comma separated or repeated
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',', value_parser = some_text)]
    pub namespace: Vec<String>,

    /// Only this key, written as `check` shows it. May be repeated
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub key: Vec<Bytes>,

    /// Only objects created at least so long ago (1s to 3650d); a key whose age is not known is not selected
    #[arg(long, value_name = "DURATION", value_parser = duration("1s", "3650d"))]
    pub older_than: Option<Duration>,

    /// Only keys of this origin: created on the standby (local), or mirrored once or unknown (leftover)
    #[arg(long, value_name = "ORIGIN", default_value = "all")]
    pub origin: OriginArg,

    /// The plan and the confirmation.
    #[command(flatten)]
    pub confirm: ConfirmArgs,

    /// How many keys are shown, the first ones; 0: all. More than these may be selected
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,

    /// More keys than this are not deleted without --accept-deletions
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Guards"
    )]
    pub deletion_limit: u64,

    /// Delete up to this many keys although that is more than --deletion-limit; default: none
    #[arg(long, value_name = "KEYS", value_parser = number(1, u64::MAX), help_heading = "Guards")]
    pub accept_deletions: Option<u64>,

    /// File for the keys that are deleted, with their values, written before the first deletion; it must not exist. Default:
    /// etcd-sync-prune-<link>-<time>.jsonl in the current directory; in a pod, whose own files go with it, there is no
    /// default: name a file on a volume that stays
    #[arg(long, value_name = "FILE", help_heading = "Guards")]
    pub backup: Option<PathBuf>,

    /// How long the comparison may take before it gives up with exit code 2 (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "60s", value_parser = duration("1s", "1d"),
        help_heading = "Guards"
    )]
    pub timeout: Duration,
}

/// `etcd-sync restore`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Guards")]
pub struct RestoreArgs {
    /// File that `etcd-sync prune` or `etcd-sync accept` has written
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// In place of a file: put back what the synchronizer saved on the standby itself before it took it away; what is back is no
    /// longer saved afterwards
    #[arg(long, switch = false)]
    pub saved: bool,

    /// With --saved: put nothing back, and delete all saved values
    #[arg(long, switch = false)]
    pub discard: bool,

    /// Put keys back into another cluster than the one they were saved from
    #[arg(long, switch = false)]
    pub accept_other_cluster: bool,

    /// Go on although the primary does not answer, as when it is gone for good: keys that it has are put back too
    #[arg(long, switch = false)]
    pub without_primary: bool,

    /// The plan and the confirmation.
    #[command(flatten)]
    pub confirm: ConfirmArgs,

    /// How many keys of each outcome are shown, the first ones; 0: all
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,
}

/// Where a surplus key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginArg {
    /// Anywhere.
    All,
    /// Created on the standby.
    Local,
    /// Mirrored once and deleted on the primary since, or of unknown origin.
    Leftover,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use etcd_sync_operations::prune::{Origin, Selection};

    use super::super::{Environment, parse_from};
    use crate::config::{BackupPlace, CommandConfig, Config, PruneConfig, RestoreConfig, RestoreSource};

    const REACH: [&str; 2] = ["--primary-endpoints=https://p:2379", "--standby-endpoints=https://s:2379"];

    fn config(args: &[&str], variables: &[(&str, &str)]) -> Result<CommandConfig, String> {
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let args = ["etcd-sync"].iter().chain(&REACH).chain(args);
        let made = parse_from(args, &environment).and_then(|cli| Config::new(cli, &environment));
        made.map(|made| made.command).map_err(|error| error.to_string())
    }

    fn prune(args: &[&str], variables: &[(&str, &str)]) -> PruneConfig {
        match config(&[&["prune"], args].concat(), variables) {
            Ok(CommandConfig::Prune(prune)) => prune,
            other => panic!("{other:?}"),
        }
    }

    fn restore(args: &[&str], variables: &[(&str, &str)]) -> RestoreConfig {
        match config(&[&["restore"], args].concat(), variables) {
            Ok(CommandConfig::Restore(restore)) => restore,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn prune_selects_nothing_in_particular_and_asks_by_default() {
        let made = prune(&[], &[]);
        assert_eq!(made.selection, Selection::default());
        assert_eq!((made.yes, made.dry_run, made.deletion_limit, made.accepted), (false, false, 100, None));
        assert_eq!((made.limit, made.backup, made.in_pod), (Some(100), None, false));
    }

    #[test]
    fn a_pod_is_known_by_its_environment() {
        assert!(prune(&[], &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).in_pod);
        assert!(!prune(&[], &[("KUBERNETES_SERVICE_HOST", "")]).in_pod);
    }

    #[test]
    fn what_is_selected() {
        let given = [
            r"--key=/a\xff\\",
            "--key=/ü",
            "--namespace=a,b",
            "--namespace=c",
            "--below=/x",
            "--older-than=2h",
            "--origin=leftover",
        ];
        let selection = prune(&given, &[]).selection;
        assert_eq!(selection.keys, [&b"/a\xff\\"[..], "/ü".as_bytes()]);
        assert_eq!(
            (selection.namespaces, selection.older_than_s),
            (vec!["a".into(), "b".into(), "c".into()], Some(7_200))
        );
        assert_eq!((selection.below[0].as_ref(), selection.origin), (&b"/x"[..], Origin::Leftover));
        let of_environment =
            prune(&[], &[("ETCD_SYNC_NAMESPACE", "a,b"), ("ETCD_SYNC_KEY", "/a\n/b\n"), ("ETCD_SYNC_YES", "on")]);
        assert_eq!((of_environment.selection.namespaces.len(), of_environment.selection.keys.len()), (2, 2));
        assert!(of_environment.yes);
        for (bad, expected) in [
            (r"--key=/a\x0", "as `check` shows it"),
            ("--below=", "as `check` shows it"),
            ("--older-than=soon", "expected a duration from 1s to 3650d"),
            ("--origin=mine", "possible values: all, local, leftover"),
        ] {
            let error = config(&["prune", bad], &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn restore_takes_one_file_beside_every_source() {
        let made = restore(&["saved.jsonl", "--yes"], &[("ETCD_SYNC_DRY_RUN", "true"), ("ETCD_SYNC_LINK", "other")]);
        assert_eq!((made.source, made.yes, made.dry_run), (RestoreSource::File("saved.jsonl".into()), true, true));
        let made = restore(&["--", "saved.jsonl"], &[]);
        assert!(!made.accept_other_cluster && !made.without_primary);
        assert!(restore(&["saved.jsonl", "--without-primary"], &[]).without_primary);
        let error = config(&["restore"], &[]).unwrap_err();
        assert!(error.contains("<FILE>"), "{error}");
        let error = config(&["restore", "f"], &[("ETCD_SYNC_YES", "maybe")]).unwrap_err();
        assert!(error.contains("ETCD_SYNC_YES") && error.contains("expected true or false"), "{error}");
        assert!(config(&["restore", "f", "g"], &[]).is_err());
    }

    #[test]
    fn restore_takes_a_file_or_what_is_saved_on_the_standby() {
        assert_eq!(restore(&["--saved"], &[]).source, RestoreSource::Standby { discard: false });
        assert_eq!(restore(&["--saved", "--discard"], &[]).source, RestoreSource::Standby { discard: true });
        for (bad, expected) in [
            (&["restore", "f", "--saved"][..], "both given"),
            (&["restore", "f", "--discard"], "does nothing without --saved"),
            (&["restore", "--discard"], "does nothing without --saved"),
        ] {
            let error = config(bad, &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn accept_saves_in_a_file_or_to_stdout() {
        let accept = |args: &[&str], variables: &[(&str, &str)]| match config(&[&["accept"], args].concat(), variables)
        {
            Ok(CommandConfig::Accept(accept)) => accept,
            other => panic!("{other:?}"),
        };
        let made = accept(&[], &[("USER", "ops"), ("HOSTNAME", "jump")]);
        assert_eq!((made.yes, made.dry_run, made.backup, made.in_pod), (false, false, None, false));
        assert_eq!((made.limit, &made.by[..]), (Some(20), "ops@jump"));
        let made = accept(&["--backup", "-", "--yes"], &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]);
        assert_eq!((made.backup, made.in_pod, made.yes), (Some(BackupPlace::Stdout), true, true));
        assert_eq!(accept(&["--backup=./-"], &[]).backup, Some(BackupPlace::File("./-".into())));
    }
}

//! The flags of `prune` and `restore`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::TableOutput;
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

    /// Only objects made so long ago or longer (1s to 3650d); a key whose age cannot be told is not selected
    #[arg(long, value_name = "DURATION", value_parser = duration("1s", "3650d"))]
    pub older_than: Option<Duration>,

    /// Only keys of this origin: made on the standby (local), or mirrored once or unknown (leftover)
    #[arg(long, value_name = "ORIGIN", default_value = "all")]
    pub origin: OriginArg,

    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// How many keys are shown, the first ones; 0: all. More than these may be selected
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,

    /// Stop after the plan
    #[arg(long, switch = false, help_heading = "Guards")]
    pub dry_run: bool,

    /// Skip the confirmation
    #[arg(long, switch = false, help_heading = "Guards")]
    pub yes: bool,

    /// More keys than this are not deleted without --accept-deletions
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Guards"
    )]
    pub deletion_limit: u64,

    /// Delete up to this many keys although that is more than --deletion-limit; default: none
    #[arg(long, value_name = "KEYS", value_parser = number(1, u64::MAX), help_heading = "Guards")]
    pub accept_deletions: Option<u64>,

    /// File to save the keys in before they are deleted, with their values; it must not exist. Default:
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
    /// File that `etcd-sync prune` has written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Stop after the plan
    #[arg(long, switch = false)]
    pub dry_run: bool,

    /// Skip the confirmation
    #[arg(long, switch = false)]
    pub yes: bool,

    /// Put keys back into another cluster than the one they were saved from
    #[arg(long, switch = false)]
    pub accept_other_cluster: bool,

    /// Go on although the primary does not answer, as when it is gone for good: keys that it has are put back too
    #[arg(long, switch = false)]
    pub without_primary: bool,

    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

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
    /// Made on the standby.
    Local,
    /// Mirrored once and deleted on the primary since, or of unknown origin.
    Leftover,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use etcd_sync_operations::prune::{Origin, Selection};

    use super::super::{Environment, parse_from};
    use crate::config::{CommandConfig, Config, PruneConfig, RestoreConfig};

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
        assert_eq!((made.file.to_str(), made.yes, made.dry_run), (Some("saved.jsonl"), true, true));
        let made = restore(&["--", "saved.jsonl"], &[]);
        assert!(!made.accept_other_cluster && !made.without_primary);
        assert!(restore(&["saved.jsonl", "--without-primary"], &[]).without_primary);
        let error = config(&["restore"], &[]).unwrap_err();
        assert!(error.contains("<FILE>"), "{error}");
        let error = config(&["restore", "f"], &[("ETCD_SYNC_YES", "maybe")]).unwrap_err();
        assert!(error.contains("ETCD_SYNC_YES") && error.contains("expected true or false"), "{error}");
        assert!(config(&["restore", "f", "g"], &[]).is_err());
    }
}

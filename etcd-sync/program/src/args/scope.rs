//! What is synchronized.

use clap::Args;
use etcd_sync_core::scope::{EXCLUDED_NAMESPACES, ScopeConfig};

use super::values::some_text;

/// The only value of a list that is meant to be empty.
const NONE: &str = "none";

/// The flags of the scope. `Scope::new` validates them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Scope")]
pub struct ScopeArgs {
    /// Prefixes of API servers (their --etcd-prefix), comma separated or repeated; `none` if the etcd has
    /// no Kubernetes data
    #[arg(
        long, global = true, value_name = "PREFIX,...", value_delimiter = ',', value_parser = some_text,
        default_value = "/registry/"
    )]
    pub prefix: Vec<String>,

    /// A prefix of another program: the rules for Kubernetes do not apply to its keys. May be repeated
    #[arg(long, global = true, value_name = "PREFIX", value_parser = some_text)]
    pub plain_prefix: Vec<String>,

    /// Namespaces that are not synchronized, comma separated or repeated. The list REPLACES the default list; `none`: no
    /// namespace is excluded
    #[arg(
        long, global = true, value_name = "NAMESPACE,...", value_delimiter = ',', value_parser = some_text,
        default_values = EXCLUDED_NAMESPACES
    )]
    pub exclude_namespace: Vec<String>,

    /// Patterns of further keys that belong to one cluster only, relative to the Kubernetes prefix, comma separated or
    /// repeated: `*` is one segment or a part of one, `**` the rest, as in `example.com/widgets/**`
    #[arg(long, global = true, value_name = "PATTERN,...", value_delimiter = ',', value_parser = some_text)]
    pub cluster_local_add: Vec<String>,

    /// Patterns of the built-in cluster-local policy to disable, written exactly as there, comma separated or
    /// repeated
    #[arg(long, global = true, value_name = "PATTERN,...", value_delimiter = ',', value_parser = some_text)]
    pub cluster_local_remove: Vec<String>,

    /// A full key that is synchronized regardless of the rules. May be repeated
    #[arg(long, global = true, value_name = "KEY", value_parser = some_text)]
    pub include_key: Vec<String>,

    /// A full key that is filtered regardless of the rules. May be repeated
    #[arg(long, global = true, value_name = "KEY", value_parser = some_text)]
    pub exclude_key: Vec<String>,
}

impl From<ScopeArgs> for ScopeConfig {
    fn from(args: ScopeArgs) -> Self {
        ScopeConfig {
            prefixes: or_none(args.prefix),
            plain_prefixes: args.plain_prefix,
            excluded_namespaces: or_none(args.exclude_namespace),
            cluster_local_add: args.cluster_local_add,
            cluster_local_remove: args.cluster_local_remove,
            include_keys: args.include_key,
            exclude_keys: args.exclude_key,
        }
    }
}

/// An empty list needs the word `none`: an empty value may come from an unset shell variable.
pub fn or_none(list: Vec<String>) -> Vec<String> {
    if list == [NONE] { Vec::new() } else { list }
}

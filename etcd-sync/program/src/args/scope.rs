//! What is synchronized.

use clap::Args;
use etcd_sync_core::scope::{EXCLUDED_NAMESPACES, ScopeConfig};

use super::values::some_text;

/// The only value of a list that is meant to be empty.
const NONE: &str = "none";

/// The flags that tell what is synchronized. `Scope::new` judges them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Scope")]
pub struct ScopeArgs {
    /// Prefixes that an API server lays out (its --etcd-prefix), comma separated or repeated; `none` where the etcd holds
    /// no Kubernetes
    #[arg(
        long, global = true, value_name = "PREFIX,...", value_delimiter = ',', value_parser = some_text,
        default_value = "/registry/"
    )]
    pub prefix: Vec<String>,

    /// A prefix of another program, synchronized as it is: no rule for Kubernetes applies below it. May be repeated
    #[arg(long, global = true, value_name = "PREFIX", value_parser = some_text)]
    pub plain_prefix: Vec<String>,

    /// Namespaces that stay out, comma separated or repeated. The list given REPLACES the default one; `none` lets every
    /// namespace in
    #[arg(
        long, global = true, value_name = "NAMESPACE,...", value_delimiter = ',', value_parser = some_text,
        default_values = EXCLUDED_NAMESPACES
    )]
    pub exclude_namespace: Vec<String>,

    /// Patterns of further keys that belong to one cluster only, relative to the Kubernetes prefix, comma separated or
    /// repeated: `*` is one segment or a part of one, `**` the rest, as in `example.com/widgets/**`
    #[arg(long, global = true, value_name = "PATTERN,...", value_delimiter = ',', value_parser = some_text)]
    pub cluster_local_add: Vec<String>,

    /// Patterns of the shipped cluster-local policy that shall not apply, as they stand there, comma separated or
    /// repeated
    #[arg(long, global = true, value_name = "PATTERN,...", value_delimiter = ',', value_parser = some_text)]
    pub cluster_local_remove: Vec<String>,

    /// A whole key that is synchronized whatever the rules say. May be repeated
    #[arg(long, global = true, value_name = "KEY", value_parser = some_text)]
    pub include_key: Vec<String>,

    /// A whole key that is left alone whatever the rules say. May be repeated
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

/// `none` has to be said: an empty value comes from an unset shell variable as easily as from a wish.
pub fn or_none(list: Vec<String>) -> Vec<String> {
    if list == [NONE] { Vec::new() } else { list }
}

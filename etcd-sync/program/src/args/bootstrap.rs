//! The flags of `bootstrap`.

use clap::Args;

use super::switch::Switch;
use super::values::some_text;

/// `etcd-sync bootstrap`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Bootstrap")]
pub struct BootstrapArgs {
    /// Secret of this pod's namespace to put the files of --standby-cacert, --standby-cert and --standby-key into, as ca.crt, tls.crt
    /// and tls.key; default: none
    #[arg(long, value_name = "SECRET", value_parser = some_text)]
    pub standby_secret: Option<String>,

    /// Secret of this pod's namespace to put the file of --encryption-config into, as encryption-provider.conf, if there is one;
    /// default: none
    #[arg(long, value_name = "SECRET", value_parser = some_text)]
    pub encryption_secret: Option<String>,

    /// Prepare the Secrets only
    #[arg(long, switch = false)]
    pub skip_preflight: bool,

    /// Only warn when it cannot be proved that the standby's API server decrypts what the primary's has encrypted
    #[arg(long, switch = false)]
    pub allow_unproved_encryption: bool,

    /// Copy the files into the Secrets again, if the files are valid, and do nothing else: for a CronJob
    #[arg(long, switch = false)]
    pub renew: bool,
}

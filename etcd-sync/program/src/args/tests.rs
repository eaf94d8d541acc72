use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_core::session::BrakeLimits;

use super::*;
use crate::config::{CommandConfig, Config, MonitorConfig, RunConfig};
use etcd_sync_operations::api_server::ApiServers;

/// The flags that every command needs.
const REACH: [&str; 2] = ["--primary-endpoints=https://p:2379", "--standby-endpoints=https://s:2379"];

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| (name.to_string(), OsString::from(value))).collect()
}

struct File(tempfile::NamedTempFile);

impl File {
    fn new(text: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        File(file)
    }

    fn flag(&self) -> String {
        format!("--config={}", self.path())
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }
}

fn cli(args: &[&str], environment: &Environment) -> Result<Cli, ArgsError> {
    parse_from(std::iter::once(&"etcd-sync").chain(args), environment)
}

fn config(args: &[&str], environment: &Environment) -> Result<Config, ArgsError> {
    let args: Vec<&str> = args.iter().copied().chain(REACH).collect();
    Config::new(cli(&args, environment)?, environment)
}

fn run(args: &[&str], environment: &Environment) -> RunConfig {
    match config(args, environment).unwrap().command {
        CommandConfig::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

/// What a user reads, without the hint about --help.
fn error(args: &[&str], environment: &Environment) -> String {
    let text = config(args, environment).unwrap_err().to_string();
    text.split("\n\n").next().unwrap().trim_end().to_owned()
}

#[test]
fn clap_finds_no_fault_with_the_definition() {
    super::sources::documented(Cli::command()).debug_assert();
    super::sources::documented(MonitorCli::command()).debug_assert();
}

#[test]
fn defaults() {
    let made = config(&["run", "--holder=me"], &env(&[])).unwrap();
    assert_eq!(made.link, "default");
    assert!(!made.log.detail);
    assert_eq!(made.scope.fingerprint(), Scope::new(&ScopeConfig::default()).unwrap().fingerprint());
    let run = run(&["run", "--holder=me"], &env(&[]));
    assert_eq!(run.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(run.leader_ttl, Duration::from_secs(10));
    assert_eq!(run.transactions_in_flight, 8);
    assert_eq!(run.checkpoint_interval, Duration::from_secs(2));
    assert_eq!(run.ready_lag, Duration::from_secs(30));
    assert_eq!((run.deletions.percent, run.deletions.count), (10, 100));
    assert_eq!(run.brake, BrakeLimits::DEFAULT);
    assert!(!run.allow_unproved_encryption);
    assert_eq!((made.encryption_config, made.api_servers), (None, ApiServers::default()));
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let file = File::new("link: from-file\nleader-ttl: 20s\ntransactions-in-flight: 16\ndetail: true\n");
    let environment = env(&[("ETCD_SYNC_LINK", "from-env"), ("ETCD_SYNC_LEADER_TTL", "30s")]);
    let flag = file.flag();
    for args in [["--link=from-flag", &flag, "run"], [&flag, "run", "--link=from-flag"]] {
        assert_eq!(config(&args, &environment).unwrap().link, "from-flag");
    }
    let args = [flag.as_str(), "run"];
    assert_eq!(config(&args, &environment).unwrap().link, "from-env");
    assert_eq!(config(&args, &env(&[])).unwrap().link, "from-file");
    assert!(config(&args, &env(&[])).unwrap().log.detail);
    assert!(!config(&args, &env(&[("ETCD_SYNC_DETAIL", "no")])).unwrap().log.detail);
    assert!(!config(&["run", &flag, "--detail=false"], &env(&[])).unwrap().log.detail);
    assert_eq!(run(&["run", &flag, "--leader-ttl", "40s"], &environment).leader_ttl, Duration::from_secs(40));
    assert_eq!(run(&args, &environment).leader_ttl, Duration::from_secs(30));
    assert_eq!(run(&args, &env(&[])).leader_ttl, Duration::from_secs(20));
    assert_eq!(run(&args, &env(&[])).transactions_in_flight, 16);
}

#[test]
fn the_file_may_be_named_in_the_environment() {
    let file = File::new("link: from-file");
    let environment = env(&[("ETCD_SYNC_CONFIG", &file.path())]);
    let made = cli(&["run"], &environment).unwrap();
    assert_eq!(made.global.link, "from-file");
    assert_eq!(made.global.config, Some(PathBuf::from(file.path())));
    let other = File::new("link: from-other");
    assert_eq!(cli(&["run", &other.flag()], &environment).unwrap().global.link, "from-other");
}

#[test]
fn an_empty_variable_counts_as_not_given() {
    let environment = env(&[("ETCD_SYNC_LINK", ""), ("ETCD_SYNC_CONFIG", ""), ("ETCD_SYNC_ACCEPT_DELETIONS", "")]);
    assert_eq!(config(&["run"], &environment).unwrap().link, "default");
}

#[test]
fn lists_in_every_source() {
    let expected = ["a:1", "b:2"];
    let file = File::new("primary-endpoints: [a:1, b:2]\ninclude-key: ['/registry/a,b']\nexclude-namespace: [x]\n");
    let of_file = cli(&["run", &file.flag()], &env(&[])).unwrap().global;
    assert_eq!(of_file.primary.endpoints, expected);
    assert_eq!(of_file.scope.include_key, ["/registry/a,b"]);
    assert_eq!(of_file.scope.exclude_namespace, ["x"]);
    let environment = env(&[("ETCD_SYNC_PRIMARY_ENDPOINTS", "a:1,b:2"), ("ETCD_SYNC_INCLUDE_KEY", "/x\n/y,z\n")]);
    let of_environment = cli(&["run"], &environment).unwrap().global;
    assert_eq!(of_environment.primary.endpoints, expected);
    assert_eq!(of_environment.scope.include_key, ["/x", "/y,z"]);
    let repeated = ["run", "--primary-endpoints", "a:1", "--primary-endpoints", "b:2"];
    assert_eq!(cli(&repeated, &environment).unwrap().global.primary.endpoints, expected);
    // One source gives the whole list: they do not add up.
    let one = ["--primary-endpoints", "c:3", "run", &file.flag()];
    assert_eq!(cli(&one, &environment).unwrap().global.primary.endpoints, ["c:3"]);
}

#[test]
fn a_list_can_be_meant_to_be_empty() {
    let file = File::new("exclude-namespace: []\nplain-prefix: []\n");
    let inside = |args: &[&str]| config(args, &env(&[])).unwrap().scope.in_scope(b"/registry/secrets/kube-system/a");
    assert!(!inside(&["run"]));
    assert!(inside(&["run", "--exclude-namespace=none"]));
    assert!(inside(&["run", &file.flag()]));
    let plain = config(&["run", "--prefix=none", "--plain-prefix=/app/"], &env(&[])).unwrap();
    assert!(plain.scope.in_scope(b"/app/a") && !plain.scope.in_scope(b"/registry/secrets/team/a"));
}

#[test]
fn keys_of_other_commands_are_ignored_unknown_ones_are_not() {
    let file = File::new("leader-ttl: 20s\noutput: json\ndeep: true\n");
    assert!(config(&["check", &file.flag()], &env(&[])).is_ok());
    assert!(config(&["run", &file.flag()], &env(&[])).is_ok());
    for (text, expected) in [
        ("primary-endpoint: a:1", "unknown key 'primary-endpoint'; did you mean 'primary-endpoints'?"),
        ("primary-password: x", "unknown key 'primary-password'; did you mean 'primary-password-file'?"),
        ("zzz: 1", "unknown key 'zzz'; keys are the flags without the dashes in front, see --help"),
        ("config: x", "unknown key 'config'"),
    ] {
        let file = File::new(text);
        let start = format!("{} (--config): {expected}", file.path());
        assert!(error(&["run", &file.flag()], &env(&[])).starts_with(&start), "{text}");
    }
}

#[test]
fn a_bad_value_names_flag_source_and_expectation() {
    let file = File::new("link: Prod\n");
    let link = "invalid value 'Prod' for '--link <NAME>': expected 1 to 40 lower-case letters, digits and dashes";
    assert_eq!(error(&["run", "--link=Prod"], &env(&[])), format!("error: {link}"));
    assert_eq!(error(&["run"], &env(&[("ETCD_SYNC_LINK", "Prod")])), format!("ETCD_SYNC_LINK: {link}"));
    assert_eq!(error(&["run", &file.flag()], &env(&[])), format!("{}, key 'link': {link}", file.path()));
    for (flag, value, expected) in [
        ("leader-ttl <DURATION>", "1s", "expected a duration from 5s to 60s"),
        ("leader-ttl <DURATION>", "soon", "expected a duration from 5s to 60s, like 500ms, 10s or 1m30s"),
        ("leader-ttl <DURATION>", "10", "expected a duration from 5s to 60s, like 500ms, 10s or 1m30s"),
        ("transactions-in-flight <N>", "65", "expected a whole number from 1 to 64"),
        ("deletion-limit-percent <PERCENT>", "-1", "expected a whole number from 0 to 100"),
        ("allow-unproved-encryption[=<BOOL>]", "maybe", "expected true or false"),
        ("listen <ADDR:PORT>", "8080", "expected ADDR:PORT with an IP address, like 0.0.0.0:8080 or [::]:8080"),
        (
            "active-cluster-vip <HOST[:PORT]>",
            "https://10.0.0.1",
            "expected HOST or HOST:PORT, like 10.0.0.10, 10.0.0.10:6443 or [fd00::10]:6443",
        ),
        ("standby-api-server <URL>", "http://10.0.0.1:6443", "expected https://HOST:PORT"),
        ("primary-endpoints <URL,...>", "a:1,,b:2", "expected a value that is not empty"),
    ] {
        let name = flag.split([' ', '[']).next().unwrap();
        let variable = super::sources::variable(name);
        let shown = if value.contains(",,") { "" } else { value };
        let expected = format!("{variable}: invalid value '{shown}' for '--{flag}': {expected}");
        assert_eq!(error_without_reach(&["run"], &env(&[(&variable, value)])), expected);
    }
    let format = error(&["run"], &env(&[("ETCD_SYNC_LOG_FORMAT", "xml")]));
    assert_eq!(
        format,
        "ETCD_SYNC_LOG_FORMAT: invalid value 'xml' for '--log-format <FORMAT>'\n  [possible values: text, json]"
    );
}

fn error_without_reach(args: &[&str], environment: &Environment) -> String {
    cli(args, environment).unwrap_err().to_string()
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let at = |text: &str| {
        let file = File::new(text);
        error(&["run", &file.flag()], &env(&[])).replace(&file.path(), "FILE")
    };
    assert_eq!(
        error(&["run", "--config=/nowhere"], &env(&[])).split(" (os").next().unwrap(),
        "cannot read /nowhere (--config): No such file or directory"
    );
    assert_eq!(at("link: [a, b]"), "FILE, key 'link': expected one value, a list is given");
    assert!(at("link: []").starts_with("FILE, key 'link': "), "{}", at("link: []"));
    assert!(at("holder: 12e4").contains("put it in quotes"), "{}", at("holder: 12e4"));
    assert!(at("link: {a: b}").contains("expected a text, a whole number, true, false, or a list"));
    assert!(at("- link").starts_with("FILE (--config): "));
    assert!(at("link: a\nlink: b").starts_with("FILE (--config): "));
    let empty = File::new("# nothing\n");
    assert_eq!(config(&["run", &empty.flag()], &env(&[])).unwrap().link, "default");
}

#[test]
fn what_belongs_together_is_asked_for() {
    let only = |args: &[&str]| Config::new(cli(args, &env(&[])).unwrap(), &env(&[])).unwrap_err().to_string();
    assert_eq!(
        only(&["run", REACH[0]]),
        "--standby-endpoints is missing (ETCD_SYNC_STANDBY_ENDPOINTS, or the key 'standby-endpoints' of --config): \
         the client URLs of the etcd members, like https://10.0.0.1:2379,https://10.0.0.2:2379"
    );
    // The journal is read when the primary is gone.
    let journal =
        |more: &[&str]| Config::new(cli(&[&["journal", REACH[1]], more].concat(), &env(&[])).unwrap(), &env(&[]));
    assert!(journal(&[]).is_ok());
    assert!(journal(&["--abandon"]).unwrap_err().to_string().starts_with("--primary-endpoints is missing"));
    let error = |flag| error(&["run", flag], &env(&[]));
    assert_eq!(error("--primary-cert=c"), "--primary-cert is given without --primary-key: give both or neither");
    assert_eq!(error("--standby-key=k"), "--standby-key is given without --standby-cert: give both or neither");
    assert_eq!(
        error("--primary-user=u"),
        "--primary-user is given without --primary-password-file: give both or neither"
    );
    assert_eq!(
        error("--standby-password-file=p"),
        "--standby-password-file is given without --standby-user: give both or neither"
    );
    assert_eq!(
        error("--active-cluster-token-file=t"),
        "--active-cluster-token-file does nothing without --active-cluster-vip: give both, or omit it"
    );
    assert_eq!(
        error("--standby-api-cacert=c"),
        "--standby-api-cacert does nothing without --standby-api-server: give both, or omit it"
    );
}

#[test]
fn mistakes_in_the_scope_name_their_flag() {
    let error = |flag| error(&["run", flag], &env(&[]));
    assert!(
        error("--cluster-local-remove=pod/**").starts_with("--cluster-local-remove: the pattern \"pod/**\" is not")
    );
    assert!(error("--exclude-namespace=Kube").starts_with("--exclude-namespace: \"Kube\" is not a namespace"));
    assert!(error("--plain-prefix=/").starts_with("--prefix, --plain-prefix: the prefix \"/\" includes"));
    assert!(error("--include-key=/x").starts_with("--include-key: the key \"/x\""));
}

#[test]
fn connections_reach_the_store() {
    let made = config(
        &[
            "run",
            "--primary-cacert=ca",
            "--primary-cert=c",
            "--primary-key=k",
            "--primary-server-name=etcd",
            "--standby-user=u",
            "--standby-password-file=p",
        ],
        &env(&[]),
    )
    .unwrap();
    let primary = made.primary.options();
    assert_eq!(primary.endpoints, ["https://p:2379"]);
    assert_eq!(primary.tls.unwrap().key, Some(PathBuf::from("k")));
    assert_eq!(primary.server_name.as_deref(), Some("etcd"));
    let standby = made.standby.options();
    assert!(standby.tls.is_none());
    assert_eq!(standby.auth.unwrap().user, "u");
}

#[test]
fn api_servers_are_named_or_found_around() {
    let servers = |args: &[&str], around: &[(&str, &str)]| config(args, &env(around)).unwrap().api_servers;
    for (given, url) in [
        ("10.0.0.1", "https://10.0.0.1:6443"),
        ("10.0.0.1:443", "https://10.0.0.1:443"),
        ("fd00::1", "https://[fd00::1]:6443"),
        ("[fd00::1]", "https://[fd00::1]:6443"),
        ("[fd00::1]:443", "https://[fd00::1]:443"),
        ("api.example.com", "https://api.example.com:6443"),
    ] {
        let flags = [&format!("--active-cluster-vip={given}"), "--active-cluster-token-file=t", "plan"];
        let primary = servers(&flags, &[]).primary.unwrap();
        assert_eq!(
            (primary.url.as_str(), primary.token_file, primary.cacert),
            (url, Some("t".into()), None),
            "{given}"
        );
    }
    for bad in ["a:", ":6443", "a:0", "a:b", "[a]:1", "fd00::1]:1", "a/b", "u@a"] {
        assert!(config(&[&format!("--active-cluster-vip={bad}"), "plan"], &env(&[])).is_err(), "{bad}");
    }
    let pod = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "6443")];
    let found = servers(&["run"], &pod).standby.unwrap();
    assert_eq!((found.url.as_str(), found.flag), ("https://[fd00::1]:6443", None));
    assert!(found.token_file.unwrap().ends_with("serviceaccount/token"));
    let named = servers(&["run", "--standby-api-server=https://s:6443/"], &pod).standby.unwrap();
    assert_eq!((named.url.as_str(), named.token_file), ("https://s:6443", None));
}

#[test]
fn the_holder_is_the_pod_or_the_host_and_process() {
    assert_eq!(run(&["run"], &env(&[("POD_NAME", "etcd-sync-0"), ("HOSTNAME", "h")])).holder, "etcd-sync-0");
    let of_host = format!("h-{}", std::process::id());
    assert_eq!(run(&["run"], &env(&[("POD_NAME", ""), ("HOSTNAME", "h")])).holder, of_host);
    assert_eq!(run(&["run", "--holder=me"], &env(&[("POD_NAME", "etcd-sync-0")])).holder, "me");
}

#[test]
fn the_commands_own_flags() {
    let plan = config(&["plan", "-o", "json", "--limit=0"], &env(&[])).unwrap();
    let CommandConfig::Plan(plan) = plan.command else { panic!() };
    assert_eq!((plan.output, plan.limit), (TableOutput::Json, None));
    let check = config(&["check", "--deep", "--timeout", "1m30s"], &env(&[])).unwrap();
    let CommandConfig::Check(check) = check.command else { panic!() };
    assert_eq!((check.output, check.limit, check.deep), (CheckOutput::Text, Some(100), true));
    assert_eq!(check.timeout, Duration::from_secs(90));
}

#[test]
fn help_comes_first_and_names_variables_and_defaults() {
    // A broken file or environment does not stand between a user and the help.
    let broken = env(&[("ETCD_SYNC_CONFIG", "/nowhere"), ("ETCD_SYNC_LINK", "Prod")]);
    let help = cli(&["run", "--help"], &broken).unwrap_err().to_string();
    for part in [
        "[env: ETCD_SYNC_LEADER_TTL] [default: 10s]",
        "[env: ETCD_SYNC_PRIMARY_ENDPOINTS]",
        "Primary etcd:",
        "Standby etcd:",
        "Scope:",
        "Logging:",
        "Guards:",
        "Kubernetes:",
        "[env: ETCD_SYNC_ENCRYPTION_CONFIG]",
    ] {
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(part), "{part}\n{help}");
    }
    let ArgsError::CommandLine(version) = cli(&["--version"], &broken).unwrap_err() else { panic!() };
    assert_eq!((version.exit_code(), version.use_stderr()), (0, false));
    let ArgsError::CommandLine(nothing) = cli(&[], &env(&[])).unwrap_err() else { panic!() };
    assert_eq!(nothing.exit_code(), 2);
}

#[test]
fn a_trailing_double_dash_does_no_harm() {
    assert_eq!(cli(&["run", "--"], &env(&[("ETCD_SYNC_LINK", "a")])).unwrap().global.link, "a");
}

fn monitor(args: &[&str], environment: &Environment) -> Result<Config<MonitorConfig>, ArgsError> {
    let args = std::iter::once("etcd-sync-monitor").chain(args.iter().copied()).chain(REACH);
    Config::monitor(parse_from(args, environment)?, environment)
}

#[test]
fn the_monitor_has_the_same_sources_and_shares_a_file_with_the_daemon() {
    let file = File::new("check-interval: 30s\nleader-ttl: 20s\nlink: filed\ndeep-check-interval: 0\n");
    let environment = env(&[("ETCD_SYNC_CHECK_INTERVAL", "2m"), ("ETCD_SYNC_CHECK_BYTES_PER_SECOND", "500K")]);
    let config = monitor(&[&file.flag(), "--listen=[::1]:9"], &environment).unwrap();
    assert_eq!((config.link.as_str(), config.command.check_interval), ("filed", Duration::from_secs(120)));
    assert_eq!((config.command.bytes_per_second, config.command.deep_check_interval), (500 << 10, None));
    let config = monitor(&["--check-interval=10s"], &environment).unwrap();
    assert_eq!(config.command.check_interval, Duration::from_secs(10));
    assert_eq!(run(&["run", &file.flag()], &env(&[])).leader_ttl, Duration::from_secs(20));
}

#[test]
fn the_monitor_says_what_it_expects() {
    let error = |args: &[&str]| monitor(args, &env(&[])).unwrap_err().to_string();
    for (flag, expected) in [
        ("--check-interval=0", "expected a duration from 1s to 1d"),
        ("--deep-check-interval=1s", "expected a duration from 10s to 7d, or 0 for never"),
        ("--check-bytes-per-second=fast", "expected a number of bytes, like 65536, 500K, 16M or 1G"),
        ("--check-bytes-per-second=99999999999G", "expected a number of bytes"),
    ] {
        assert!(error(&[flag]).contains(expected), "{flag}: {}", error(&[flag]));
    }
}

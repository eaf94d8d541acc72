//! What `drill` works with.

use std::path::PathBuf;

use crate::args::{ArgsError, DrillArgs, Environment};

use super::ProcedureConfig;

/// `drill`.
#[derive(Clone, Debug)]
pub struct DrillConfig {
    /// A name to switch in place of the domain.
    pub name: Option<String>,
    /// File for the report in Markdown.
    pub markdown: Option<PathBuf>,
    /// File for the report in JSON.
    pub json: Option<PathBuf>,
    /// What a switchover would work with.
    pub procedure: ProcedureConfig,
}

impl DrillConfig {
    pub(super) fn new(args: DrillArgs, environment: &Environment) -> Result<DrillConfig, ArgsError> {
        let DrillArgs { drill_name, markdown, json, output, timeout, readiness, dns, restart } = args;
        if drill_name.is_some() && dns.domain.is_none() {
            return Err(ArgsError::Useless { given: "drill-name".to_owned(), missing: "domain".to_owned() });
        }
        if let (Some(name), Some(domain)) = (&drill_name, &dns.domain)
            && name.trim_end_matches('.').eq_ignore_ascii_case(domain.trim_end_matches('.'))
        {
            let problem =
                "it is the domain itself, and a drill deletes its name in the end: give a name that is not in use";
            return Err(ArgsError::Value { origin: "--drill-name".to_owned(), problem: problem.to_owned() });
        }
        let procedure = ProcedureConfig::rehearsal(output, timeout, readiness, dns, restart, environment)?;
        Ok(DrillConfig { name: drill_name, markdown, json, procedure })
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{Environment, parse_from};
    use crate::config::{CommandConfig, Config};

    fn name(args: &[&str]) -> Result<Option<String>, String> {
        let environment = Environment::new();
        let reach = ["etcd-sync", "--primary-endpoints=p", "--standby-endpoints=s", "drill"];
        let made = parse_from(reach.iter().chain(args), &environment).and_then(|cli| Config::new(cli, &environment));
        match made.map_err(|error| error.to_string())?.command {
            CommandConfig::Drill(drill) => Ok(drill.name),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_scratch_name_is_not_the_domain() {
        let domain = ["--domain=global.example.com", "--dns-address=10.1.0.10"];
        assert_eq!(name(&domain).unwrap(), None);
        let with = |scratch: &str| name(&[&domain[..], &[&format!("--drill-name={scratch}")]].concat());
        assert_eq!(with("drill.example.com").unwrap().as_deref(), Some("drill.example.com"));
        assert!(with("Global.Example.com.").unwrap_err().contains("it is the domain itself"));
        assert!(name(&["--drill-name=drill.example.com"]).unwrap_err().contains("does nothing without --domain"));
    }
}

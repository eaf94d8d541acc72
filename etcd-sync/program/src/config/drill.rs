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
                "it is the domain itself, and a drill takes its name away in the end: give a name nobody uses";
            return Err(ArgsError::Value { origin: "--drill-name".to_owned(), problem: problem.to_owned() });
        }
        let procedure = ProcedureConfig::rehearsal(output, timeout, readiness, dns, restart, environment)?;
        Ok(DrillConfig { name: drill_name, markdown, json, procedure })
    }
}

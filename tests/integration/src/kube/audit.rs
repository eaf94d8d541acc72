//! What the API server's audit log says: who changed what.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The service account the garbage collector works as.
pub const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// One request that changed something, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Who asked.
    pub user: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The resource's plural, and `/subresource` where there is one.
    pub resource: String,
    /// The namespace; empty without one.
    pub namespace: String,
    /// The object's name; empty for a collection.
    pub name: String,
    /// The answer's HTTP status.
    pub status: u64,
    /// The program, as it calls itself; empty when it does not.
    pub agent: String,
}

impl AuditEvent {
    /// Whether the garbage collector deleted an object, and succeeded.
    pub fn is_collected(&self) -> bool {
        self.user == GARBAGE_COLLECTOR && self.verb == "delete" && self.status == 200
    }

    fn parse(line: &str) -> Result<AuditEvent> {
        let event: Value = serde_json::from_str(line).context("a line of the audit log is not JSON")?;
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (plural, subresource) = (text("/objectRef/resource"), text("/objectRef/subresource"));
        let resource = if subresource.is_empty() { plural } else { format!("{plural}/{subresource}") };
        let status = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
        Ok(AuditEvent {
            user: text("/user/username"),
            verb: text("/verb"),
            group: text("/objectRef/apiGroup"),
            resource,
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            status,
            agent: text("/userAgent"),
        })
    }
}

/// All events of a log, oldest first. A last line without its end is still being written: it is ignored.
pub(super) fn read(file: &Path) -> Result<Vec<AuditEvent>> {
    let text = std::fs::read_to_string(file).context("read the audit log")?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(AuditEvent::parse).collect()
}

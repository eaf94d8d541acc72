//! The preflight of a switch.

use anyhow::Result;

use super::Context;
use crate::operations::readiness::{self, For, Readiness};

/// Checks everything that must hold.
///
/// # Errors
/// The flags or the files they name cannot be used.
pub async fn look(context: &Context<'_>, purpose: For) -> Result<Readiness> {
    let Context { config, procedure, dns, .. } = context;
    readiness::look(&readiness::Context { config, readiness: &procedure.readiness, dns: *dns }, purpose).await
}

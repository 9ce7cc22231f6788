//! The certificate authorities that a `backend-ca-secret` names.

use std::sync::Arc;

use propylon_model::{ObjectRef, ReportReason};

use crate::{
    annotations::{BACKEND_CA_SECRET, PREFIX},
    memory::Memory,
    reports::Reports,
    world::{Key, World},
};

/// The authorities (DER) of a Secret that `owner` names; none, with a report, where there are none and never were.
pub(super) fn of(
    world: &World,
    memory: &mut Memory,
    owner: &ObjectRef,
    secret: &Key,
    reports: &mut Reports,
) -> Option<Arc<[Vec<u8>]>> {
    let field = format!("metadata.annotations[{PREFIX}{BACKEND_CA_SECRET}]");
    let Some(found) = world.secrets.get(secret) else {
        let message = format!(
            "{field}: Secret {secret} does not exist, so the backend cannot be verified and requests are answered with 503; \
             create it with the authority's certificate as ca.crt"
        );
        reports.add(owner, ReportReason::AnnotationInvalid, message);
        return None;
    };
    let reading = memory.authorities(secret, found);
    let usable = reading.usable().cloned();
    if let Err(why) = &reading.now {
        let instead = match usable {
            Some(_) => "the last good authorities stay in force",
            None => "the backend cannot be verified and requests are answered with 503",
        };
        let message = format!("{field}: Secret {secret}: {why}; {instead}; put PEM certificates there");
        reports.add(owner, ReportReason::AnnotationInvalid, message);
    }
    usable
}

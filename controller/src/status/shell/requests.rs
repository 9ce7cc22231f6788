//! Requests about Ingresses.

use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use propylon_kit::metrics::WriteResult;
use tokio::time::timeout;

use super::Due;
use crate::{
    config::StatusMode,
    context::Context,
    status::plan::{Decision, PortErrors, manifest},
};

/// Field manager of the status of Ingresses.
const MANAGER: &str = "propylon-status";
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(10);

/// What became of a write.
pub(super) enum Outcome {
    /// It failed, and is tried again.
    Failed,
    /// The Ingress does not exist any more.
    Gone,
    /// The status of an Ingress of another class was not ours.
    NotOurs,
    /// It is written.
    Written,
    /// Another controller owns the status.
    Yielded,
}

/// Does what was decided about one Ingress.
pub(super) async fn write(context: &Context, due: &Due, mode: StatusMode) -> Outcome {
    if !*context.is_leader.borrow() {
        return Outcome::Failed;
    }
    let (namespace, name) = (&*due.key.namespace, &*due.key.name);
    let api: Api<Ingress> = Api::namespaced(context.client.clone(), namespace);
    let (object, params) = match &due.decision {
        Decision::Leave => return Outcome::NotOurs,
        Decision::Write(addresses) => {
            let params = PatchParams::apply(MANAGER);
            let params = if mode == StatusMode::Always {
                params.force()
            } else {
                params
            };
            (manifest(namespace, name, addresses, &due.facts.errors), params)
        }
        Decision::Withdraw => match is_written_by_us(&api, name).await {
            Ok(true) => (
                manifest(namespace, name, &[], &PortErrors::new()),
                PatchParams::apply(MANAGER),
            ),
            Ok(false) => return Outcome::NotOurs,
            Err(error) => return failed(context, due, &error),
        },
    };
    let result = match timeout(REQUEST, api.patch_status(name, &params, &Patch::Apply(object))).await {
        Ok(Ok(_)) => WriteResult::Written,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Outcome::Gone,
        Ok(Err(kube::Error::Api(status))) if status.code == 409 && mode == StatusMode::Yield => WriteResult::Yielded,
        Ok(Err(error)) => return failed(context, due, &error.to_string()),
        Err(_) => return failed(context, due, "no answer in time"),
    };
    context.registry.control().record_status_write("Ingress", result);
    if result == WriteResult::Written {
        Outcome::Written
    } else {
        Outcome::Yielded
    }
}

fn failed(context: &Context, due: &Due, error: &str) -> Outcome {
    context
        .registry
        .control()
        .record_status_write("Ingress", WriteResult::Failed);
    tracing::warn!(ingress = %due.key, error, "the status of an Ingress could not be written; it is tried again");
    Outcome::Failed
}

/// Whether we own the status, which the stores do not tell.
async fn is_written_by_us(api: &Api<Ingress>, name: &str) -> Result<bool, String> {
    // The chart gives the right to list, not to get.
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let answer = timeout(REQUEST, api.list_metadata(&params)).await;
    let found = answer
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let Some(object) = found.items.first() else {
        return Ok(false);
    };
    let fields = object.metadata.managed_fields.iter().flatten();
    let mut of_status = fields.filter(|fields| fields.subresource.as_deref() == Some("status"));
    Ok(of_status.any(|fields| fields.manager.as_deref() == Some(MANAGER)))
}

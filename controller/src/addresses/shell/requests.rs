//! Requests about Services.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use propylon_kit::metrics::WriteResult;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Ahead, ServiceFacts, Write};
use crate::context::Context;

/// Field manager of what is written to Services.
const MANAGER: &str = "propylon-controller";
/// Services that are written at a time.
const AT_ONCE: usize = 8;
/// Services in one page of a list.
const PAGE: u32 = 500;
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(10);

/// What became of the writes of a Service.
pub(super) enum Outcome {
    /// The Service as the API server has it now.
    Written(Box<ServiceFacts>),
    /// It does not exist any more.
    Gone,
    /// Somebody else wrote it meanwhile, or the request failed: to be decided anew.
    Failed,
}

/// Lists the Services as the API server has them now: no cache, so that what the leader before wrote is among it.
pub(super) async fn list(client: &Client, ahead: &mut Ahead) -> Result<(), String> {
    let api: Api<Service> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = timeout(REQUEST, api.list(&params)).await;
        let page = page.map_err(|_| "no answer in time".to_owned())?;
        let page = page.map_err(|error| error.to_string())?;
        for service in &page.items {
            let facts = ServiceFacts::read(service);
            if !facts.present.is_empty() || facts.is_load_balancer {
                ahead.listed(facts);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Writes several Services at a time; each with what it was, in any order.
pub(super) async fn patch_all(
    context: &Context,
    due: Vec<(&ServiceFacts, Vec<Write>)>,
) -> Vec<(ServiceFacts, Outcome)> {
    let due: Vec<(ServiceFacts, Vec<Write>)> = due
        .into_iter()
        .map(|(service, writes)| (service.clone(), writes))
        .collect();
    stream::iter(due)
        .map(|(service, writes)| async move {
            let outcome = patch(context, &service, &writes).await;
            (service, outcome)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Writes one Service. Each patch names the version that it was decided on, so that nothing of others is overwritten.
async fn patch(context: &Context, service: &ServiceFacts, writes: &[Write]) -> Outcome {
    let key = &service.key;
    let api: Api<Service> = Api::namespaced(context.client.clone(), &key.namespace);
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let mut version = service.resource_version.clone();
    let mut last = None;
    for write in writes {
        if !*context.is_leader.borrow() {
            return Outcome::Failed;
        }
        let (Write::Object(patch) | Write::Status(patch)) = write;
        let patch = Patch::Merge(with_version(patch, version.as_deref()));
        let sent = match write {
            Write::Object(_) => timeout(REQUEST, api.patch(&key.name, &params, &patch)).await,
            Write::Status(_) => timeout(REQUEST, api.patch_status(&key.name, &params, &patch)).await,
        };
        let answer = match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Outcome::Gone,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                context
                    .registry
                    .control()
                    .record_status_write("Service", WriteResult::Conflict);
                return Outcome::Failed;
            }
            Ok(Err(error)) => return failed(context, service, &error.to_string()),
            Err(_) => return failed(context, service, "no answer in time"),
        };
        if matches!(write, Write::Status(_)) {
            context
                .registry
                .control()
                .record_status_write("Service", WriteResult::Written);
        }
        version.clone_from(&answer.metadata.resource_version);
        last = Some(ServiceFacts::read(&answer));
    }
    last.map_or(Outcome::Failed, |last| Outcome::Written(Box::new(last)))
}

fn failed(context: &Context, service: &ServiceFacts, error: &str) -> Outcome {
    context
        .registry
        .control()
        .record_status_write("Service", WriteResult::Failed);
    tracing::warn!(service = %service.key, error, "a Service's address could not be written; it is tried again");
    Outcome::Failed
}

/// A patch that fails where the object has another version by now.
fn with_version(patch: &Value, version: Option<&str>) -> Value {
    let mut patch = patch.clone();
    if let (Some(version), Some(fields)) = (version, patch.as_object_mut()) {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
    }
    patch
}

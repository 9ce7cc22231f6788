//! Following the Secret of the authority: every replica makes its own end of TLS of it.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};

use super::{
    SECRET, Shared,
    issue::now_unix_s,
    material::Material,
    secret::{Authorities, Data},
};

/// Follows the Secret until cancelled. What was good last stays in use while the Secret is missing, damaged, or cannot be
/// read.
///
/// # Cancel safety
/// Can be cancelled at any time.
pub(super) async fn follow(client: Client, shared: Arc<Shared>) {
    let api: Api<Secret> = Api::namespaced(client, &shared.settings.namespace);
    let mut changes = watcher::watch_object(api, SECRET).default_backoff().boxed();
    let mut present: Option<Data> = None;
    let mut renew = Duration::MAX;
    loop {
        // Cancel safe: a change that is not taken stays in the stream.
        let is_due = tokio::select! {
            change = changes.next() => match change {
                Some(change) => adopt(change, &mut present),
                None => return tracing::error!(secret = SECRET, "the watch of the authority's Secret ended"),
            },
            () = tokio::time::sleep(renew.min(LONGEST)) => {
                let is_due = renew <= LONGEST;
                renew = renew.saturating_sub(LONGEST);
                is_due
            }
        };
        if let Some(data) = present.as_ref().filter(|_| is_due) {
            renew = take(&shared, data);
        }
    }
}

/// Takes up what the Secret holds now; whether that is something else than before.
fn adopt(change: watcher::Result<Option<Secret>>, present: &mut Option<Data>) -> bool {
    match change {
        Ok(Some(secret)) => {
            let data = data_of(&secret);
            let is_new = present.as_ref() != Some(&data);
            *present = Some(data);
            is_new
        }
        Ok(None) => {
            tracing::debug!(secret = SECRET, "the authority's Secret is not there");
            false
        }
        Err(error) => {
            tracing::warn!(%error, secret = SECRET, "cannot watch the authority's Secret; the last one stays in use");
            false
        }
    }
}

/// Makes the server's end of TLS anew; gives when to do so again.
fn take(shared: &Shared, data: &Data) -> Duration {
    let now_unix_s = now_unix_s();
    let read = Authorities::read(data).map_err(|error| error.to_string());
    let made = read.and_then(|authorities| {
        Material::new(authorities, &shared.settings.names(), now_unix_s).map_err(|error| error.to_string())
    });
    match made {
        Ok(material) => {
            let renew = u64::try_from(material.renew_unix_s.saturating_sub(now_unix_s)).unwrap_or_default();
            tracing::info!(
                authority = %super::authority::hex(material.authorities.signing.root().fingerprint.get(..6).unwrap_or_default()),
                "server certificate made"
            );
            shared.material.send_replace(Some(Arc::new(material)));
            Duration::from_secs(renew.max(1))
        }
        Err(error) => {
            tracing::error!(
                %error,
                secret = %format!("{}/{SECRET}", shared.settings.namespace),
                "the authority's Secret is damaged; the last good one stays in use. Restore it, or delete it to have a new \
                 one made: proxies then buy new certificates"
            );
            AGAIN
        }
    }
}

/// What a Secret holds.
pub(super) fn data_of(secret: &Secret) -> Data {
    let data = secret.data.iter().flatten();
    data.map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

/// Timers are not set for longer, so that a clock that jumps is noticed.
const LONGEST: Duration = Duration::from_mins(10);
/// When a Secret that is no good is looked at again.
const AGAIN: Duration = Duration::from_mins(1);

//! The leader's duty: the Secret of the authority and the `ConfigMap` of what is trusted, step by step as the plan says.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{PostParams, Resource as _},
};
use thiserror::Error;

use super::{
    CONFIG_MAP, ROTATE, SECRET, Settings, TRUST_KEY,
    authority::{Authority, AuthorityError},
    follow::data_of,
    issue::now_unix_s,
    plan::{Step, decide},
    secret::{Authorities, SecretError, TYPE, fingerprints},
};

/// Why a step was not done; it is tried again.
#[derive(Debug, Error)]
pub(super) enum KeepError {
    /// The API server refuses or cannot be reached. A conflict means that somebody else was faster.
    #[error("cannot {attempt}: {source}{hint}", hint = hint(.source))]
    Api {
        /// What was tried.
        attempt: &'static str,
        /// Why not.
        source: kube::Error,
    },
    /// No authority can be made.
    #[error("cannot make an authority: {0}")]
    Authority(#[from] AuthorityError),
    /// The Secret is damaged.
    #[error(
        "the Secret {SECRET} is damaged: {0}; restore it, or delete it to have a new one made (proxies then buy new \
         certificates)"
    )]
    Damaged(#[from] SecretError),
}

/// What is missing where the API server says 403.
fn hint(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "; the controller's Role must allow get and update of the Secret propylon-ca and the ConfigMap propylon-trust, and \
             create of both kinds, in its own namespace"
        }
        _ => "",
    }
}

/// Does what is due until cancelled; to be run on the leader only. Two leaders do no harm: every write names the version
/// that it replaces.
///
/// # Cancel safety
/// Can be cancelled at any time; what is left half done is done by the next leader.
pub(super) async fn keep(client: Client, settings: &Settings) {
    let keeper = Keeper {
        secrets: Api::namespaced(client.clone(), &settings.namespace),
        config_maps: Api::namespaced(client, &settings.namespace),
        settings,
    };
    loop {
        let pause = match keeper.step().await {
            Ok(Step::Wait(until)) => {
                let wait = u64::try_from(until.saturating_sub(now_unix_s())).unwrap_or_default();
                Duration::from_secs(wait.max(1)).min(LOOK)
            }
            Ok(_) => continue,
            Err(KeepError::Api {
                source: kube::Error::Api(status),
                ..
            }) if status.code == 409 => CONFLICT,
            Err(error) => {
                tracing::error!(%error, namespace = %settings.namespace, "the certificate authority is not kept");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Keeper<'a> {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    settings: &'a Settings,
}

impl Keeper<'_> {
    async fn step(&self) -> Result<Step, KeepError> {
        let secret = self.secrets.get_opt(SECRET).await;
        let secret = secret.map_err(|source| api("read the Secret propylon-ca", source))?;
        let trust = self.config_maps.get_opt(CONFIG_MAP).await;
        let trust = trust.map_err(|source| api("read the ConfigMap propylon-trust", source))?;
        let authorities = secret
            .as_ref()
            .map(|secret| Authorities::read(&data_of(secret)))
            .transpose()?;
        let is_rotation_requested = secret.as_ref().is_some_and(|secret| {
            let annotations = secret.metadata.annotations.as_ref();
            annotations.is_some_and(|annotations| annotations.contains_key(ROTATE))
        });
        let state = authorities
            .as_ref()
            .map(|authorities| authorities.state(is_rotation_requested));
        let published = trust.as_ref().and_then(|trust| trust.data.as_ref()?.get(TRUST_KEY));
        let published = published.map(|pem| fingerprints(pem));
        let now_unix_s = now_unix_s();
        let step = decide(state.as_ref(), published.as_ref(), now_unix_s, &self.settings.times);
        if !matches!(step, Step::Wait(_)) {
            tracing::info!(?step, "certificate authority");
        }
        match (step, authorities) {
            (Step::Wait(_), _) => {}
            (Step::PublishTrust, Some(authorities)) => self.publish(trust, &authorities.trust()).await?,
            (step, authorities) => {
                let authorities = self.change(step, authorities, now_unix_s)?;
                self.write(secret, &authorities).await?;
            }
        }
        Ok(step)
    }

    /// The authorities after a step.
    fn change(
        &self,
        step: Step,
        authorities: Option<Authorities>,
        now_unix_s: i64,
    ) -> Result<Authorities, AuthorityError> {
        let times = &self.settings.times;
        let create = || Authority::create(now_unix_s, times.authority);
        let Some(mut authorities) = authorities else {
            return create().map(Authorities::first);
        };
        match step {
            Step::BeginNext => authorities.begin(create()?),
            Step::Create | Step::Replace => authorities = Authorities::first(create()?),
            Step::Forget => authorities.forget(now_unix_s),
            Step::MarkPublished => authorities.mark_published(now_unix_s),
            Step::Promote => authorities.promote(now_unix_s, times),
            Step::PublishTrust | Step::Wait(_) => {}
        }
        Ok(authorities)
    }

    async fn write(&self, before: Option<Secret>, authorities: &Authorities) -> Result<(), KeepError> {
        let is_new = before.is_none();
        let mut secret = before.unwrap_or_else(|| Secret {
            metadata: self.metadata(SECRET),
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        });
        if let Some(annotations) = &mut secret.meta_mut().annotations {
            annotations.remove(ROTATE);
        }
        let data = authorities.write().into_iter();
        secret.data = Some(data.map(|(name, value)| (name, ByteString(value))).collect());
        let params = PostParams::default();
        let written = if is_new {
            self.secrets.create(&params, &secret).await
        } else {
            self.secrets.replace(SECRET, &params, &secret).await
        };
        written
            .map(drop)
            .map_err(|source| api("write the Secret propylon-ca", source))
    }

    async fn publish(&self, before: Option<ConfigMap>, trust: &str) -> Result<(), KeepError> {
        let is_new = before.is_none();
        let mut map = before.unwrap_or_else(|| ConfigMap {
            metadata: self.metadata(CONFIG_MAP),
            ..ConfigMap::default()
        });
        map.data
            .get_or_insert_default()
            .insert(TRUST_KEY.to_owned(), trust.to_owned());
        let params = PostParams::default();
        let written = if is_new {
            self.config_maps.create(&params, &map).await
        } else {
            self.config_maps.replace(CONFIG_MAP, &params, &map).await
        };
        written
            .map(drop)
            .map_err(|source| api("write the ConfigMap propylon-trust", source))
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        let labels = [
            ("app.kubernetes.io/name", "propylon"),
            ("app.kubernetes.io/component", "controller"),
            ("app.kubernetes.io/managed-by", "propylon-controller"),
        ];
        let labels: BTreeMap<String, String> = labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        }
    }
}

const fn api(attempt: &'static str, source: kube::Error) -> KeepError {
    KeepError::Api { attempt, source }
}

/// Somebody may delete or change what was written; it is looked at so often.
const LOOK: Duration = Duration::from_secs(30);
/// After an error.
const AGAIN: Duration = Duration::from_secs(5);
/// After somebody else was faster.
const CONFLICT: Duration = Duration::from_millis(200);

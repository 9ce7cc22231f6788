//! The server itself: what the other tests rely on.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use k8s_openapi::{
    api::{
        authentication::v1::{TokenReview, TokenReviewSpec},
        core::v1::{ConfigMap, Namespace, Secret, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    runtime::wait::{await_condition, conditions},
};
use propylon_e2e::lab::{self, ApiServer, Options, Part, Store};
use serde_json::json;

/// Far above what a request takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("key".to_owned(), "value".to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// The status code of the API server's refusal.
fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not refused by the API server: {other:?}"),
    }
}

async fn create<K>(client: &Client, namespace: &str, value: serde_json::Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(value).unwrap();
    Api::<K>::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

#[tokio::test]
async fn it_is_the_version_that_the_module_names() {
    let version = ApiServer::shared().client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, format!("v{}", lab::kubernetes_version().unwrap()));
}

#[tokio::test]
async fn a_service_account_may_what_its_role_says_and_nothing_else() {
    let server = ApiServer::shared();
    let admin = server.client();
    let namespace = server.namespace("rbac").await.unwrap();
    create::<ServiceAccount>(&admin, &namespace, json!({"metadata": {"name": "reader"}})).await;
    create::<Role>(
        &admin,
        &namespace,
        json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]}),
    )
    .await;
    create::<RoleBinding>(
        &admin,
        &namespace,
        json!({
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
        }),
    )
    .await;
    let reader = server.service_account(&namespace, "reader").await.unwrap().client();
    let maps = Api::<ConfigMap>::namespaced(reader.clone(), &namespace);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 0);
    assert_eq!(
        refusal(maps.create(&PostParams::default(), &config_map("mine")).await),
        403
    );
    let secrets = Api::<Secret>::namespaced(reader, &namespace);
    assert_eq!(refusal(secrets.list(&ListParams::default()).await), 403);
}

#[tokio::test]
async fn a_user_without_a_role_may_nothing() {
    let nobody = ApiServer::shared().user("nobody", Some("nobodies")).unwrap().client();
    let namespaces = Api::<Namespace>::all(nobody);
    assert_eq!(refusal(namespaces.list(&ListParams::default()).await), 403);
}

#[tokio::test]
async fn tokens_are_good_for_their_audience_only() {
    let server = ApiServer::shared();
    let admin = server.client();
    let namespace = server.namespace("tokens").await.unwrap();
    create::<ServiceAccount>(&admin, &namespace, json!({"metadata": {"name": "proxy"}})).await;
    let token = server
        .token(&namespace, "proxy", &["propylon-controller"])
        .await
        .unwrap();
    let review = async |audience: &str| {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.clone()),
                audiences: Some(vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(admin.clone())
            .create(&PostParams::default(), &review)
            .await;
        answer.unwrap().status.unwrap()
    };
    let good = review("propylon-controller").await;
    assert_eq!(good.authenticated, Some(true));
    let user = good.user.unwrap().username.unwrap();
    assert_eq!(user, format!("system:serviceaccount:{namespace}:proxy"));
    assert_ne!(review("another").await.authenticated, Some(true));
}

#[tokio::test]
async fn a_restart_keeps_the_objects() {
    let server = ApiServer::start(Options::default()).unwrap();
    let namespace = server.namespace("restart").await.unwrap();
    let maps = || Api::<ConfigMap>::namespaced(server.client(), &namespace);
    maps()
        .create(&PostParams::default(), &config_map("kept"))
        .await
        .unwrap();
    for part in [Part::ApiServer, Part::Etcd] {
        server.restart(part).unwrap();
        assert!(maps().get("kept").await.is_ok(), "after a restart of {part:?}");
    }
    server.kill(Part::ApiServer);
    let gone = maps().get("kept").await.unwrap_err();
    assert!(!matches!(gone, kube::Error::Api(_)), "nobody answers: {gone}");
    server.start_part(Part::ApiServer).unwrap();
    server.wait_ready().unwrap();
    maps().get("kept").await.unwrap();
}

#[tokio::test]
async fn a_held_server_answers_when_it_goes_on() {
    let server = ApiServer::start(Options::default()).unwrap();
    let namespaces = Api::<Namespace>::all(server.client());
    namespaces.get("default").await.unwrap();
    server.pause(Part::ApiServer).unwrap();
    let mut request = Box::pin(namespaces.get("default"));
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut request)
            .await
            .is_err()
    );
    server.resume(Part::ApiServer).unwrap();
    tokio::time::timeout(PATIENCE, request).await.unwrap().unwrap();
}

#[tokio::test]
async fn compaction_and_a_restart_make_an_old_watch_end_with_410() {
    let server = ApiServer::start(Options::default()).unwrap();
    let namespace = server.namespace("compaction").await.unwrap();
    let maps = || Api::<ConfigMap>::namespaced(server.client(), &namespace);
    let first = maps()
        .create(&PostParams::default(), &config_map("first"))
        .await
        .unwrap();
    maps()
        .create(&PostParams::default(), &config_map("second"))
        .await
        .unwrap();
    server.compact().unwrap();
    server.restart(Part::ApiServer).unwrap();
    assert_eq!(
        first_error(
            &maps(),
            &first.metadata.resource_version.unwrap(),
            &WatchParams::default()
        )
        .await,
        410
    );
}

/// Streaming lists need an etcd that can tell how far it is; Debian's cannot.
#[tokio::test]
async fn the_etcd_of_debian_refuses_streaming_lists() {
    let server = ApiServer::start(Options {
        store: Store::Etcd34,
        ..Options::default()
    })
    .unwrap();
    let maps = Api::<ConfigMap>::namespaced(server.client(), "default");
    maps.create(&PostParams::default(), &config_map("plain-requests-work"))
        .await
        .unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert_eq!(
        first_error(&maps, "", &WatchParams::default().initial_events()).await,
        500
    );
}

#[tokio::test]
async fn a_controller_manager_deletes_namespaces() {
    let server = ApiServer::start(Options {
        controller_manager: true,
        ..Options::default()
    })
    .unwrap();
    let name = server.namespace("short-lived").await.unwrap();
    let namespaces = Api::<Namespace>::all(server.client());
    let uid = namespaces.get(&name).await.unwrap().metadata.uid.unwrap();
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    let gone = await_condition(namespaces, &name, conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
}

/// The code of the error with which a watch ends, as a status of the request or as an event.
async fn first_error(maps: &Api<ConfigMap>, version: &str, parameters: &WatchParams) -> u16 {
    let first = async {
        let mut events = match maps.watch(parameters, version).await {
            Ok(events) => Box::pin(events),
            Err(kube::Error::Api(status)) => return status.code,
            Err(error) => panic!("{error}"),
        };
        loop {
            match events.try_next().await {
                Ok(Some(WatchEvent::Error(status))) | Err(kube::Error::Api(status)) => return status.code,
                Ok(Some(_)) => {}
                other => panic!("the watch ended without an error: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, first).await.unwrap()
}

//! Who is who on the stream, with a real API server: tokens that it made and reviews, the Secret and the `ConfigMap` in it.

mod desk;
mod rotation;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Api, api::DeleteParams};
use propylon_e2e::lab::{ApiServer, Options, Part};
use propylon_testkit::wait;
use propylon_wire::IssueError;

use desk::Desk;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn denied(outcome: Result<desk::Bought, IssueError>, words: &str) {
    match outcome {
        Err(IssueError::Denied(message)) => assert!(message.contains(words), "{message}"),
        Err(other) => panic!("not denied: {other}"),
        Ok(_) => panic!("not denied"),
    }
}

#[tokio::test]
async fn a_projected_token_buys_the_certificate_of_its_pod() {
    let desk = Desk::open(ApiServer::shared()).await;
    desk.pod("proxy-a", "propylon-proxy").await;
    let token = desk.token("proxy-a", "propylon-proxy", "propylon-controller").await;
    let bought = desk.buy(&token, None).await.unwrap();
    let identity = desk.connect_as(&bought).await;
    assert_eq!((&*identity.pod, &*identity.node), ("proxy-a", "node-proxy-a"));
    assert_eq!(&*identity.namespace, desk.namespace);
    let secrets = Api::<Secret>::namespaced(desk.server.client(), &desk.namespace);
    let secret = secrets.get("propylon-ca").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("propylon.dev/authority"));
    let maps = Api::<ConfigMap>::namespaced(desk.server.client(), &desk.namespace);
    let trust = maps.get("propylon-trust").await.unwrap().data.unwrap();
    let authority = String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap();
    assert_eq!(trust["ca.crt"].trim(), authority.trim());
}

#[tokio::test]
async fn whoever_is_no_proxy_is_refused() {
    let desk = Desk::open(ApiServer::shared()).await;
    desk.pod("proxy-a", "propylon-proxy").await;
    desk.pod("app", "default").await;
    let token = desk.token("proxy-a", "propylon-proxy", "another-audience").await;
    denied(desk.buy(&token, None).await, "audience 'propylon-controller'");
    let token = desk.token("app", "default", "propylon-controller").await;
    denied(desk.buy(&token, None).await, ":default; certificates are for");
    let audience = ["propylon-controller"];
    let unbound = desk
        .server
        .token(&desk.namespace, "propylon-proxy", &audience)
        .await
        .unwrap();
    denied(desk.buy(&unbound, None).await, "which pod");
    denied(desk.buy("nonsense", None).await, "does not accept the token");
    denied(desk.buy("", None).await, "there is none in the request");
    // An account of the same name in another namespace.
    let other = Desk::open(ApiServer::shared()).await;
    other.pod("proxy-b", "propylon-proxy").await;
    let token = other.token("proxy-b", "propylon-proxy", "propylon-controller").await;
    denied(desk.buy(&token, None).await, "certificates are for");
}

#[tokio::test]
async fn a_certificate_does_not_outlive_its_pod() {
    let desk = Desk::open(ApiServer::shared()).await;
    desk.pod("proxy-a", "propylon-proxy").await;
    let token = desk.token("proxy-a", "propylon-proxy", "propylon-controller").await;
    let bought = desk.buy(&token, None).await.unwrap();
    let renewed = desk.buy(&token, Some(&bought)).await.unwrap();
    desk.connect_as(&renewed).await;
    let pods = Api::<Pod>::namespaced(desk.server.client(), &desk.namespace);
    pods.delete("proxy-a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    // The API server remembers for a few seconds what it said of a token.
    let refused = async || desk.buy(&token, Some(&renewed)).await.err();
    assert!(wait::some_async(PATIENCE, refused).await.is_some(), "still renewed");
    denied(desk.buy(&token, Some(&renewed)).await, "does not accept the token");
}

#[tokio::test]
async fn a_certificate_is_renewed_while_the_api_server_is_away() {
    let server = ApiServer::start(Options::default()).unwrap();
    let desk = Desk::open(&server).await;
    desk.pod("proxy-a", "propylon-proxy").await;
    let token = desk.token("proxy-a", "propylon-proxy", "propylon-controller").await;
    let bought = desk.buy(&token, None).await.unwrap();
    server.stop(Part::ApiServer);
    let renewed = desk.buy(&token, Some(&bought)).await.unwrap();
    let again = desk.buy("", Some(&renewed)).await.err();
    assert!(
        matches!(again, Some(IssueError::Denied(_))),
        "a token is always asked for: {again:?}"
    );
    let first = desk.buy(&token, None).await.err();
    assert!(matches!(first, Some(IssueError::Unavailable(_))), "{first:?}");
    assert_eq!(&*desk.connect_as(&renewed).await.pod, "proxy-a");
}

//! Proxies that do not do their part, on a virtual clock.

use std::{future::pending, pin::pin, sync::Arc};

use futures_util::stream;
use http::uri::PathAndQuery;
use propylon_model::{Certificate, CertificateName, Delta, HostPattern, PrivateKeyDer};
use tonic::{Code, client::Grpc};

use super::*;
use crate::{client::channel, mirror::Mirror};

/// Publishes two resources of which each is larger than a window of HTTP/2.
fn publisher() -> Publisher {
    let mut delta = Delta::default();
    for name in ["a", "b"] {
        let certificate = Certificate {
            hosts: vec![HostPattern::Any],
            not_for: Vec::new(),
            chain_der: vec![vec![7; 3 << 20]].into(),
            key: PrivateKeyDer::new(Vec::new()),
            not_after_unix_s: 0,
            rank: 0,
        };
        let name = CertificateName::new(name);
        delta.certificates.insert(name, Some(Arc::new(certificate)));
    }
    let publisher = Publisher::new();
    publisher.publish(&delta);
    publisher
}

fn proxy() -> ProxyIdentity {
    ProxyIdentity::from_uri("propylon://propylon/proxy-a/node-1/uid").expect("a proxy")
}

/// Opens a stream that says hello and nothing else.
async fn open(channel: channel::Channel) -> (Grpc<channel::Channel>, Streaming<Response>) {
    let mut grpc = Grpc::with_origin(channel, http::Uri::from_static(channel::ORIGIN));
    grpc = grpc.max_decoding_message_size(MAX_RESPONSE_BYTES);
    grpc.ready().await.expect("it is ready");
    let hello = Mirror::new().greet("test");
    let requests = stream::unfold(Some(hello), |hello| async {
        match hello {
            Some(hello) => Some((hello, None)),
            None => pending().await,
        }
    });
    let codec = ProstCodec::<Request, Response>::default();
    let path = PathAndQuery::from_static(STREAM);
    let answer = grpc.streaming(tonic::Request::new(requests), path, codec).await;
    let inbound = answer.expect("the stream opens").into_inner();
    // The connection ends when nobody can send any more.
    (grpc, inbound)
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_reads_nothing_is_cut_off() {
    let publisher = publisher();
    let (near, far) = tokio::io::duplex(64 << 10);
    let mut serving = pin!(serve(far, proxy(), &publisher));
    let client = async {
        let (channel, connection) = channel::open(near).await.expect("a connection");
        let mut connection = pin!(connection);
        let inbound = tokio::select! {
            inbound = open(channel) => inbound,
            ended = &mut connection => panic!("the connection ended: {ended:?}"),
        };
        // The connection answers pings, the stream is not read.
        let _ended = connection.await;
        drop(inbound);
        pending::<()>().await;
    };
    tokio::select! {
        ended = &mut serving => assert!(matches!(ended, Err(ServeError::Stalled)), "{ended:?}"),
        () = client => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_acknowledge_is_let_go() {
    let publisher = publisher();
    let (near, far) = tokio::io::duplex(64 << 10);
    let client = async {
        let (channel, connection) = channel::open(near).await.expect("a connection");
        let talk = async {
            let (_grpc, mut inbound) = open(channel).await;
            loop {
                match inbound.message().await {
                    Ok(Some(_)) => assert_eq!(publisher.proxies().len(), 1),
                    Ok(None) => panic!("the stream ended without a reason"),
                    Err(status) => return status,
                }
            }
        };
        tokio::select! {
            status = talk => status,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    };
    tokio::select! {
        ended = serve(far, proxy(), &publisher) => panic!("the server ended: {ended:?}"),
        status = client => {
            assert_eq!(status.code(), Code::DeadlineExceeded);
            assert_eq!(publisher.proxies(), []);
        }
    }
}

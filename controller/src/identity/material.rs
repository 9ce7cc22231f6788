//! What one replica works with: the authority that signs, and its own end of TLS.

use std::{net::IpAddr, sync::Arc, time::Duration};

use propylon_wire::{Peer, ProxyIdentity};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{
    authority::{AuthorityError, ServerLeaf},
    plan::renewal,
    secret::Authorities,
};

/// Why an authority that was read is of no use; the one before stays in use.
#[derive(Debug, Error)]
pub(super) enum MaterialError {
    /// It cannot sign our own certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// rustls refuses what was made of it.
    #[error("TLS refuses it: {0}")]
    Tls(#[from] rustls::Error),
    /// No client can be verified with it.
    #[error("TLS refuses what is to be trusted: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Whom the server certificate names, and how long certificates last.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) hosts: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) leaf: Duration,
}

/// The authority that signs, and the server's end of TLS.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) authorities: Authorities,
    pub(super) tls: Arc<ServerConfig>,
    /// When the server certificate is made anew.
    pub(super) renew_unix_s: i64,
}

impl Material {
    /// Makes a server certificate of the authority that signs; clients of all that are trusted are let in, and those
    /// without a certificate too, who may ask for one.
    ///
    /// # Errors
    /// When the authority has expired or is no good.
    pub(super) fn new(authorities: Authorities, names: &Names, now_unix_s: i64) -> Result<Self, MaterialError> {
        let server = authorities
            .signing
            .sign_server(&names.hosts, &names.addresses, now_unix_s, names.leaf)?;
        // From now, not from the begin of its validity, which lies a little before.
        let renew_unix_s = renewal(now_unix_s, server.leaf.not_after_unix_s);
        let tls = server_config(&authorities.trust(), server)?;
        Ok(Self {
            authorities,
            tls: Arc::new(tls),
            renew_unix_s: renew_unix_s.max(now_unix_s + 1),
        })
    }
}

fn server_config(trust: &str, server: ServerLeaf) -> Result<ServerConfig, MaterialError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::pem_slice_iter(trust.as_bytes()).filter_map(Result::ok);
    roots.add_parsable_certificates(trusted);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.leaf.der], server.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry the certificate of the one before past its end.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// Who is at the other end, and until when: what the verified client certificate says.
///
/// # Errors
/// In words, when the certificate names no proxy of `namespace`.
pub(super) fn peer(chain: Option<&[CertificateDer<'_>]>, namespace: &str) -> Result<(Peer, Option<i64>), String> {
    let Some(leaf) = chain.and_then(|chain| chain.first()) else {
        return Ok((Peer::Anonymous, None));
    };
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let uris = names.iter().flat_map(|names| &names.value.general_names);
    let mut uris = uris.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or("the certificate has no URI of a proxy")?;
    let identity = ProxyIdentity::from_uri(uri).map_err(|error| error.to_string())?;
    if &*identity.namespace != namespace {
        return Err(format!("{uri} is of another namespace than {namespace}"));
    }
    Ok((Peer::Proxy(identity), Some(parsed.validity().not_after.timestamp())))
}

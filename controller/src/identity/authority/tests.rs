use rcgen::KeyPair;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: Duration = Duration::from_hours(24);

fn proxy() -> ProxyIdentity {
    ProxyIdentity::from_uri("propylon://propylon/propylon-proxy-a/node-1/0b8f").unwrap()
}

/// A key and a request for it, DER.
fn request() -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    (key, request.der().to_vec())
}

#[test]
fn an_authority_reads_back_and_signs_with_a_name_that_matches() {
    let made = Authority::create(NOW, DAY * 365).unwrap();
    let read = Authority::read(made.certificate_pem(), made.key_pem()).unwrap();
    assert_eq!(read.root(), made.root());
    assert_eq!(read.root().not_after_unix_s, NOW + 365 * 86_400);
    let (_, request) = request();
    let key = ProxyKey::of_request(&request).unwrap();
    let leaf = read.sign_proxy(&proxy(), &key, NOW, DAY).unwrap();
    let (_, parsed) = X509Certificate::from_der(&leaf.der).unwrap();
    let (_, authority) = X509Certificate::from_der(made.certificate()).unwrap();
    assert_eq!(parsed.issuer().as_raw(), authority.subject().as_raw());
    assert_eq!(leaf.not_after_unix_s, NOW + 86_400);
    assert_eq!(parsed.validity().not_after.timestamp(), leaf.not_after_unix_s);
    assert_eq!(parsed.validity().not_before.timestamp(), NOW - LEEWAY_S);
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let (one, other) = (
        Authority::create(NOW, DAY).unwrap(),
        Authority::create(NOW, DAY).unwrap(),
    );
    assert_ne!(one.root().fingerprint, other.root().fingerprint);
    let error = Authority::read(one.certificate_pem(), other.key_pem()).unwrap_err();
    assert!(error.to_string().contains("not the key of the certificate"), "{error}");
    assert!(Authority::read("nonsense", one.key_pem()).is_err());
}

#[test]
fn no_certificate_outlives_its_authority() {
    let authority = Authority::create(NOW, DAY).unwrap();
    let (_, request) = request();
    let key = ProxyKey::of_request(&request).unwrap();
    let leaf = authority.sign_proxy(&proxy(), &key, NOW + 80_000, DAY).unwrap();
    assert_eq!(leaf.not_after_unix_s, NOW + 86_400);
    let error = authority.sign_proxy(&proxy(), &key, NOW + 86_400, DAY).unwrap_err();
    assert!(matches!(error, AuthorityError::Expired), "{error}");
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    let (_, mut request) = request();
    assert!(ProxyKey::of_request(&request).is_ok());
    // The last byte belongs to the signature.
    *request.last_mut().unwrap() ^= 1;
    let error = ProxyKey::of_request(&request).unwrap_err();
    assert!(error.contains("not signed by its own key"), "{error}");
    assert!(ProxyKey::of_request(b"junk").is_err());
    request.push(0);
    assert!(ProxyKey::of_request(&request).is_err());
}

use http::{HeaderMap, HeaderValue, Uri};

use super::*;

struct Case {
    method: Method,
    target: &'static str,
    version: Version,
    hosts: &'static [&'static str],
    scheme: Scheme,
}

impl Case {
    fn http11(target: &'static str, hosts: &'static [&'static str]) -> Self {
        Self {
            method: Method::GET,
            target,
            version: Version::HTTP_11,
            hosts,
            scheme: Scheme::Http,
        }
    }

    fn http2(target: &'static str, hosts: &'static [&'static str]) -> Self {
        Self {
            version: Version::HTTP_2,
            scheme: Scheme::Https,
            ..Self::http11(target, hosts)
        }
    }

    fn with(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn run(&self) -> Result<(String, TargetForm), RequestFault> {
        let uri = Uri::from_static(self.target);
        let mut headers = HeaderMap::new();
        for host in self.hosts {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        let head = Head {
            method: &self.method,
            uri: &uri,
            version: self.version,
            headers: &headers,
        };
        of_request(&head, self.scheme).map(|target| (target.host.canonical().to_owned(), target.form))
    }
}

#[test]
fn a5_01_http11_needs_exactly_one_valid_host() {
    assert_eq!(
        Case::http11("/", &["a.example:80"]).run(),
        Ok(("a.example".to_owned(), TargetForm::Origin))
    );
    assert_eq!(Case::http11("/", &[""]).run(), Ok((String::new(), TargetForm::Origin)));
    assert_eq!(Case::http11("/", &[]).run(), Err(RequestFault::HostMissing));
    assert_eq!(
        Case::http11("/", &["a.example", "a.example"]).run(),
        Err(RequestFault::HostRepeated)
    );
    assert_eq!(
        Case::http11("/", &["a.example", "b.example"]).run(),
        Err(RequestFault::HostRepeated)
    );
    assert_eq!(
        Case::http11("/", &["a.example, b.example"]).run(),
        Err(RequestFault::Host(HostFault::Character))
    );
    assert_eq!(
        Case::http11("http://a.example/", &[]).run(),
        Err(RequestFault::HostMissing)
    );
    assert_eq!(
        Case::http11("http://a.example/", &["u@b"]).run(),
        Err(RequestFault::Host(HostFault::Character))
    );
}

#[test]
fn a5_01_http10_without_host_uses_the_no_host_rules() {
    let case = Case {
        version: Version::HTTP_10,
        ..Case::http11("/", &[])
    };
    assert_eq!(case.run(), Ok((String::new(), TargetForm::Origin)));
    let case = Case {
        version: Version::HTTP_10,
        ..Case::http11("/", &["a.example"])
    };
    assert_eq!(case.run(), Ok(("a.example".to_owned(), TargetForm::Origin)));
}

#[test]
fn a5_02_absolute_form_wins_over_host_and_must_match_the_listener() {
    let own = Case::http11("http://A.example:8080/x", &["b.example"]);
    assert_eq!(own.run(), Ok(("a.example".to_owned(), TargetForm::Absolute)));
    assert_eq!(
        Case::http11("http://a.example", &["b"]).run(),
        Ok(("a.example".to_owned(), TargetForm::Absolute))
    );
    assert_eq!(
        Case::http11("https://a.example/", &["a.example"]).run(),
        Err(RequestFault::Scheme)
    );
    assert_eq!(
        Case::http11("ftp://a.example/", &["a.example"]).run(),
        Err(RequestFault::Scheme)
    );
    let tls = Case {
        scheme: Scheme::Https,
        ..Case::http11("https://a.example/", &["a.example"])
    };
    assert_eq!(tls.run(), Ok(("a.example".to_owned(), TargetForm::Absolute)));
    let userinfo = Case::http11("http://user@a.example/", &["a.example"]);
    assert_eq!(userinfo.run(), Err(RequestFault::Host(HostFault::Character)));
}

#[test]
fn a5_02_the_authority_form_is_refused() {
    assert_eq!(
        Case::http11("a.example:80", &["a.example"]).run(),
        Err(RequestFault::Target)
    );
    assert_eq!(
        Case::http11("a.example:80", &["a.example"]).with(Method::CONNECT).run(),
        Err(RequestFault::Connect)
    );
    assert_eq!(RequestFault::Connect.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(RequestFault::Target.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a5_02_the_asterisk_is_for_options() {
    let options = Case::http11("*", &["a.example"]).with(Method::OPTIONS);
    assert_eq!(options.run(), Ok(("a.example".to_owned(), TargetForm::Asterisk)));
    assert_eq!(Case::http11("*", &["a.example"]).run(), Err(RequestFault::Asterisk));
    assert_eq!(Case::http2("*", &["a.example"]).run(), Err(RequestFault::Asterisk));
}

#[test]
fn a5_16_http2_host_must_agree_with_authority() {
    let agreed = Ok(("a.example".to_owned(), TargetForm::Origin));
    assert_eq!(Case::http2("https://a.example/", &[]).run(), agreed);
    assert_eq!(Case::http2("https://a.example/", &["A.example:443"]).run(), agreed);
    assert_eq!(
        Case::http2("http://a.example/", &[]).run(),
        agreed,
        "TLS may have ended before us"
    );
    assert_eq!(Case::http2("/", &["a.example"]).run(), agreed, "translated from HTTP/1");
    assert_eq!(
        Case::http2("https://a.example/", &["b.example"]).run(),
        Err(RequestFault::HostMismatch)
    );
    assert_eq!(
        Case::http2("https://a.example/", &["a.example:8443"]).run(),
        Err(RequestFault::HostMismatch)
    );
    assert_eq!(
        Case::http2("https://a.example/", &["a.example", "a.example"]).run(),
        Err(RequestFault::HostRepeated)
    );
    assert_eq!(Case::http2("/", &[]).run(), Err(RequestFault::HostMissing));
    assert_eq!(Case::http2("/", &[""]).run(), Err(RequestFault::HostMissing));
    assert_eq!(Case::http2("ftp://a.example/", &[]).run(), Err(RequestFault::Scheme));
}

#[test]
fn extended_connect_is_read_like_any_request() {
    let case = Case::http2("https://a.example/chat", &[]).with(Method::CONNECT);
    assert_eq!(case.run(), Ok(("a.example".to_owned(), TargetForm::Origin)));
    assert_eq!(
        Case::http2("a.example:443", &[]).with(Method::CONNECT).run(),
        Err(RequestFault::Connect)
    );
}

//! The certificates of a Kubernetes cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::kubeconfig::Credential;

/// One authority that signs for servers and users alike, and the key of service account tokens; in a folder.
pub struct Pki {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files (PEM).
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pki {
    /// Makes the authority (`ca.crt`, `ca.key`) and the key of service account tokens (`sa.key`, `sa.pub`) in `folder`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("propylon-lab", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().context("making a key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("signing the authority")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let pki = Self {
            folder: folder.to_owned(),
            issuer,
        };
        pki.write("ca.crt", &pki.issuer.pem())?;
        pki.write("ca.key", &pki.issuer.key().serialize_pem())?;
        let tokens = KeyPair::generate().context("making a key")?;
        pki.write("sa.key", &tokens.serialize_pem())?;
        pki.write("sa.pub", &tokens.public_key_pem())?;
        Ok(pki)
    }

    /// The path of a file of this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The authority's certificate, PEM.
    pub fn authority_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate for `hosts` (names and addresses), as `NAME.crt` and `NAME.key`. It is valid as a client
    /// too: a kubelet uses one for both. `user` and `group` are what the API server takes it for then.
    ///
    /// # Errors
    /// When a host is not ASCII or the files cannot be written.
    pub fn server(&self, name: &str, hosts: &[String], user: &str, group: Option<&str>) -> Result<Files> {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.sign(hosts, subject(user, group), usages)?;
        self.files(name, &certificate, &key)
    }

    /// A user's credential: the certificate's common name is the user, its organisation the one group.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Credential> {
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate_pem, key_pem) = self.sign(&[], subject(user, group), usages)?;
        Ok(Credential::Certificate {
            certificate_pem,
            key_pem,
        })
    }

    /// As [`Pki::client`], as files `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn client_files(&self, name: &str, user: &str, group: Option<&str>) -> Result<Files> {
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.sign(&[], subject(user, group), usages)?;
        self.files(name, &certificate, &key)
    }

    fn sign(
        &self,
        hosts: &[String],
        subject: DistinguishedName,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<(String, String)> {
        let key = KeyPair::generate().context("making a key")?;
        let mut params = CertificateParams::new(hosts).context("a host that is not ASCII")?;
        params.distinguished_name = subject;
        params.extended_key_usages = usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn files(&self, name: &str, certificate: &str, key: &str) -> Result<Files> {
        Ok(Files {
            certificate: self.write(&format!("{name}.crt"), certificate)?,
            key: self.write(&format!("{name}.key"), key)?,
        })
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

fn subject(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, user);
    name
}

//! The certificate of the public listener, replaced without a restart when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio::time::{MissedTickBehavior, interval};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::config::TlsFiles;
use crate::clock::UnixTime;
use crate::net::certificates::{read_chain, read_private_key};
use crate::net::{crypto_provider, tls_fault};
use crate::storage::{FileError, PrivateFile, check_file};

/// How often the files are looked at: works for symbolic links that are swapped, too.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is no use.
    #[error("{path}: {detail}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// Others may write a file.
    #[error(transparent)]
    Open(FileError),
    /// The key is not the certificate's, or TLS refuses them.
    #[error("{cert_file} and {key_file} can't be used together: {detail}")]
    Pair {
        /// The chain.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// Why.
        detail: String,
    },
    /// No self-signed certificate could be made.
    #[error("a certificate for development can't be made: {0}")]
    Development(String),
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain expires.
    expires: UnixTime,
}

/// The certificate in force.
#[derive(Clone)]
pub struct Certificate {
    loaded: Arc<ArcSwap<Loaded>>,
    files: Arc<TlsFiles>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// If they are no use.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Arc::new(ArcSwap::from_pointee(load(&files)?));
        Ok(Self { loaded, files: Arc::new(files) })
    }

    /// For the next connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// When it expires, or one that stands above it in its chain.
    #[must_use]
    pub fn expires(&self) -> UnixTime {
        self.loaded.load().expires
    }

    /// Watches the files for ever. New ones that are no use change nothing and are said once.
    pub async fn watch(self) {
        let mut seen = self.contents().await;
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let found = self.contents().await;
            if found == seen {
                continue;
            }
            seen = found;
            self.reload();
        }
    }

    /// Reads the files now.
    pub fn reload(&self) {
        match load(&self.files) {
            Ok(loaded) => {
                self.loaded.store(Arc::new(loaded));
                tracing::info!(cert_file = %self.files.cert_file.display(), "the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the new certificate is no use; the old one stays in force"),
        }
    }

    async fn contents(&self) -> [Option<Vec<u8>>; 2] {
        let (cert, key) = tokio::join!(tokio::fs::read(&self.files.cert_file), tokio::fs::read(&self.files.key_file));
        [cert.ok(), key.ok()]
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let file = |path: &Path, detail: String| TlsError::File { path: path.to_owned(), detail };
    for path in [&files.cert_file, &files.key_file] {
        // One that is missing is told below.
        if let Err(error @ FileError::OpenFile { .. }) = check_file(path) {
            return Err(TlsError::Open(error));
        }
    }
    let chain = read_chain(&files.cert_file)
        .map_err(|why| file(&files.cert_file, format!("no certificate can be read from this file: {why}")))?;
    let expires = chain
        .iter()
        .map(|certificate| {
            X509Certificate::from_der(certificate).map(|(_, found)| found.validity().not_after.timestamp())
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| file(&files.cert_file, format!("a certificate in it can't be read: {e}")))?;
    let expires = UnixTime(expires.into_iter().min().unwrap_or(i64::MAX));
    let key = read_private_key(&files.key_file)
        .map_err(|why| file(&files.key_file, format!("no private key can be read from this file: {why}")))?;
    let pair = |e: rustls::Error| TlsError::Pair {
        cert_file: files.cert_file.clone(),
        key_file: files.key_file.clone(),
        detail: tls_fault::of_own_files(&e).to_owned(),
    };
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions last for hours, and nodes share no ticket keys: tickets would only cost.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Loaded { config: Arc::new(config), expires })
}

/// Makes a CA and a certificate for `names` in `folder`, for development; keeps what is there. Clients trust
/// `dev-ca.pem`.
///
/// # Errors
/// If they can't be made or written.
pub fn development(folder: &Path, names: &[String]) -> Result<TlsFiles, TlsError> {
    let files = TlsFiles { cert_file: folder.join("dev-cert.pem"), key_file: folder.join("dev-key.pem") };
    if files.cert_file.exists() && files.key_file.exists() {
        return Ok(files);
    }
    let failed = |e: rcgen::Error| TlsError::Development(e.to_string());
    let write = |path: &Path, text: &str| {
        PrivateFile::new(path).replace(text).map_err(|e| TlsError::Development(e.to_string()))
    };
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "writeback-relay development CA");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().map_err(failed)?).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut leaf = CertificateParams::new(names).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, "writeback-relay development");
    let leaf = leaf.signed_by(&key, &ca).map_err(failed)?;
    // Everybody may trust it.
    std::fs::write(folder.join("dev-ca.pem"), ca.pem()).map_err(|e| TlsError::Development(e.to_string()))?;
    write(&files.key_file, &key.serialize_pem())?;
    write(&files.cert_file, &leaf.pem())?;
    Ok(files)
}

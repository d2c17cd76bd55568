//! Certificates and private keys as people have them: PEM, DER, PKCS#7, also with the marks that Windows puts into files.
//! What can't be taken is refused with the command that converts it.

mod der;
mod pem;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use self::der::Kind;
use self::pem::Block;
pub use self::pem::{key_to_pem, to_pem};
use crate::storage::decode;

/// A file with all the CAs of the world is shorter.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What a file is read for: the sentences about what it is not are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// CAs to trust.
    Authorities,
    /// A server's or a client's own certificate, and what leads from it to its CA.
    Chain,
    /// The key of such a one.
    Key,
}

/// CA certificates to trust.
///
/// # Errors
/// If there is none; then what there is, and what to do.
pub fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    read(path, Wanted::Authorities).map(|found| found.certificates)
}

/// A certificate of one's own, first, and the others of its chain in their order.
///
/// # Errors
/// If there is none; then what there is, and what to do.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    read(path, Wanted::Chain).map(|found| in_order(found.certificates))
}

/// A private key.
///
/// # Errors
/// If there is none that can be used; then what there is, and what to do.
pub fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let found = read(path, Wanted::Key)?;
    found.keys.into_iter().next().ok_or_else(|| sentence(path, Wanted::Key, None))
}

/// What is in a file.
#[derive(Default)]
struct Found {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
    /// What else there is, if nothing is there that was looked for.
    instead: Option<Kind<'static>>,
}

impl Found {
    fn has(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Authorities | Wanted::Chain => !self.certificates.is_empty(),
            Wanted::Key => !self.keys.is_empty(),
        }
    }

    fn add(&mut self, wanted: Wanted, der: &[u8]) {
        match der::kind(der) {
            Kind::Certificate(der) => self.certificates.push(CertificateDer::from(der.to_vec())),
            Kind::Pkcs7(several) => {
                let authorities: Vec<_> = several.iter().copied().filter(|der| is_authority(der)).collect();
                let of_use =
                    if wanted == Wanted::Authorities && !authorities.is_empty() { authorities } else { several };
                self.certificates.extend(of_use.into_iter().map(|der| CertificateDer::from(der.to_vec())));
            }
            Kind::PrivateKey => self.keys.extend(PrivateKeyDer::try_from(der.to_vec())),
            other => self.instead = self.instead.take().or(Some(other.named())),
        }
    }

    fn add_block(&mut self, wanted: Wanted, block: &Block<'_>) {
        match block.label {
            "RSA PRIVATE KEY" if !block.encrypted => {
                self.keys.push(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(block.der.to_vec())));
            }
            "EC PRIVATE KEY" if !block.encrypted => {
                self.keys.push(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(block.der.to_vec())));
            }
            "PRIVATE KEY" => self.keys.push(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(block.der.to_vec()))),
            label if label.ends_with("PRIVATE KEY") => self.instead = Some(Kind::EncryptedKey),
            label if label.ends_with("CERTIFICATE REQUEST") => self.instead = Some(Kind::Request),
            _ if block.der.is_empty() => self.instead = Some(Kind::Cut),
            // Windows calls a PKCS#7 file a certificate, too, so what is inside decides.
            label => {
                self.add(wanted, &block.der);
                if label.contains("CERTIFICATE") && matches!(self.instead, Some(Kind::Unknown)) {
                    self.instead = Some(Kind::Cut);
                }
            }
        }
    }
}

fn read(path: &Path, wanted: Wanted) -> Result<Found, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| error.to_string())?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(format!("it is longer than {} MiB", MAX_BYTES >> 20));
    }
    let mut found = Found::default();
    match decode(&bytes) {
        // DER may be text by chance; then it is no PEM.
        Ok(text) if !pem::blocks(&text).is_empty() => {
            for block in pem::blocks(&text) {
                found.add_block(wanted, &block);
            }
        }
        Ok(text) => match pem::without_lines(&text) {
            Some(der) => found.add(wanted, &der),
            None => found.add(wanted, &bytes),
        },
        Err(_) => found.add(wanted, &bytes),
    }
    if found.has(wanted) { Ok(found) } else { Err(sentence(path, wanted, Some(&found))) }
}

/// Why a file is no use, and what to do.
fn sentence(path: &Path, wanted: Wanted, found: Option<&Found>) -> String {
    let file = path.display();
    let certificate = match wanted {
        Wanted::Authorities => "the CA's certificate is meant",
        Wanted::Chain => "a certificate is meant",
        Wanted::Key => "its private key is meant",
    };
    let (options, to) = match wanted {
        Wanted::Authorities => ("-cacerts -nokeys", "ca.pem"),
        Wanted::Chain => ("-nokeys", "cert.pem"),
        Wanted::Key => ("-nocerts -nodes", "key.pem"),
    };
    let instead = found.and_then(|found| found.instead.as_ref());
    match instead {
        Some(Kind::Pkcs12) => format!(
            "it is a PKCS#12 file (.pfx, .p12), with a password around it; convert it: openssl pkcs12 -in {file} {options} \
             -out {to}"
        ),
        Some(Kind::EncryptedKey) if wanted == Wanted::Key => {
            format!("the private key in it is encrypted; take the password off: openssl pkey -in {file} -out key.pem")
        }
        _ if found.is_some_and(|found| !found.certificates.is_empty()) => {
            format!("it holds a certificate; {certificate}")
        }
        Some(Kind::EncryptedKey) => format!("it holds a private key; {certificate}"),
        _ if found.is_some_and(|found| !found.keys.is_empty()) => format!("it holds a private key; {certificate}"),
        Some(Kind::Request) => {
            format!("it holds a request for a certificate, which a CA has yet to answer; {certificate}")
        }
        Some(Kind::RevocationList) => format!("it holds a list of revoked certificates; {certificate}"),
        Some(Kind::Store) => format!(
            "it is a serialized certificate store of Windows (.sst); export the certificate again, as \"Base-64 encoded \
             X.509 (.CER)\"; {certificate}"
        ),
        Some(Kind::Page) => format!("it is a web page; {certificate}"),
        Some(Kind::Empty) => "it is empty".to_owned(),
        Some(Kind::Cut) => "what it holds is cut off or damaged; copy it again".to_owned(),
        _ if wanted == Wanted::Key => {
            format!("it holds no private key as PEM or DER; convert it: openssl pkey -in {file} -out key.pem")
        }
        _ => format!(
            "it holds no certificate as PEM, DER or PKCS#7; if it is one in another form, convert it: openssl x509 -in \
             {file} -out {to}"
        ),
    }
}

/// Whether it may sign others. Of a whole chain from Windows, the server's own certificate is no CA to trust.
fn is_authority(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// One's own first, then whoever has signed it, and so on: in PKCS#7 they stand in any order.
fn in_order(mut certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let names: Vec<_> = certificates.iter().map(|der| names(der)).collect();
    let has_signed_another = |at: usize, subject: &[u8]| {
        names.iter().enumerate().any(|(other, (_, issuer))| other != at && issuer.as_slice() == subject)
    };
    let own = names.iter().enumerate().position(|(at, (subject, _))| !has_signed_another(at, subject));
    let Some(own) = own else { return certificates };
    certificates.swap(0, own);
    for at in 1..certificates.len() {
        let Some((_, issuer)) = certificates.get(at - 1).map(|der| self::names(der)) else { break };
        let next = certificates.iter().skip(at).position(|der| self::names(der).0 == issuer);
        let Some(next) = next else { break };
        certificates.swap(at, at + next);
    }
    certificates
}

/// Whose it is, and who has signed it.
fn names(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    X509Certificate::from_der(der)
        .map(|(_, found)| (found.subject().as_raw().to_vec(), found.issuer().as_raw().to_vec()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! What is wrong with a server's certificate, in one sentence with what to do about it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{X509Name, X509Version};

use crate::protocol::untrusted::Untrusted;

/// So many bits an RSA key has at least.
const MIN_RSA_BITS: usize = 2048;

/// Signature algorithms that nobody takes any more: with SHA-1 or MD5.
const OUTDATED: &[&str] =
    &["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1", "1.2.840.10040.4.3", "1.3.14.3.2.29"];

/// As many names are shown.
const NAMES: usize = 5;

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// No `subjectAltName`, which alone names a server (RFC 9525).
    NoName,
    /// It names others.
    OtherName {
        /// Whom.
        names: Vec<Untrusted>,
    },
    /// It is over.
    Expired,
    /// It has not begun.
    NotValidYet,
    /// Nobody whom this host trusts vouches for it.
    UnknownIssuer {
        /// Who issued it, or the last of those that were sent with it.
        issuer: Option<Untrusted>,
        /// It was issued by itself.
        self_signed: bool,
    },
    /// Somebody of the name of a trusted CA has signed it, with another key.
    OtherIssuer {
        /// The name.
        issuer: Option<Untrusted>,
    },
    /// It is a CA's, and shown as a server's.
    IsCa,
    /// It is not for servers.
    Purpose,
    /// A key is too short.
    WeakKey {
        /// How many bits of RSA it has.
        bits: usize,
        /// The CA whose key it is; the certificate's own if absent.
        of_ca: Option<Untrusted>,
    },
    /// It, or one above it, is signed in a way that is not taken.
    Signature,
    /// It was revoked.
    Revoked,
    /// It is of a version before 3.
    Version,
    /// It can't be read.
    Malformed,
    /// It breaks another rule.
    Rule,
}

impl CertificateFault {
    /// Of what the verifier says, the certificate, those that were sent with it, and the CAs that this host trusts beside
    /// the system's.
    pub(super) fn of(
        refused: &CertificateError,
        leaf: &[u8],
        sent: &[CertificateDer<'_>],
        trusted: &[CertificateDer<'_>],
    ) -> Self {
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return Self::Malformed };
        let read = |all: &[CertificateDer<'_>]| -> Vec<Seen> {
            all.iter().filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, read)| Seen::of(&read)).collect()
        };
        let (sent, trusted) = (read(sent), read(trusted));
        // Those that may have signed one of them.
        let signed =
            |ca: &Seen, leaf: &Seen| ca.name == leaf.issuer_name || sent.iter().any(|one| one.issuer_name == ca.name);
        let weak_ca = |leaf: &Seen| sent.iter().chain(&trusted).find(|ca| ca.weak().is_some() && signed(ca, leaf));
        match Self::from(refused) {
            Self::OtherName { .. } => named(&leaf),
            Self::UnknownIssuer { .. } => unknown(&Seen::of(&leaf), &sent, &trusted),
            Self::Signature => {
                let leaf = Seen::of(&leaf);
                match weak_ca(&leaf) {
                    _ if leaf.weak().is_some() => Self::WeakKey { bits: leaf.rsa_bits, of_ca: None },
                    _ if leaf.outdated => Self::Signature,
                    Some(ca) => Self::WeakKey { bits: ca.rsa_bits, of_ca: Some(ca.subject.clone()) },
                    // A CA of the system's may have the same name by chance.
                    None if leaf.name == leaf.issuer_name => {
                        Self::UnknownIssuer { issuer: Some(leaf.issuer), self_signed: true }
                    }
                    None if matches!(refused, CertificateError::BadSignature) => {
                        Self::OtherIssuer { issuer: Some(last(&leaf, &sent).issuer.clone()) }
                    }
                    None => Self::Signature,
                }
            }
            Self::Rule if leaf.version() != X509Version::V3 => Self::Version,
            Self::Rule if leaf.is_ca() => Self::IsCa,
            Self::Rule if !for_servers(&leaf) => Self::Purpose,
            other => other,
        }
    }

    /// Of a certificate whose key is too short.
    pub(super) fn of_key(leaf: &[u8]) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
        Seen::of(&leaf).weak().map(|bits| Self::WeakKey { bits, of_ca: None })
    }

    /// As the certificate of a failed handshake.
    pub(super) fn into_error(self) -> CertificateError {
        CertificateError::Other(OtherError(Arc::new(self)))
    }

    /// One sentence. `private_if` says when a CA of one's own is to be expected: "the relay has a private CA".
    #[must_use]
    pub fn sentence(&self, private_if: Option<&str>) -> String {
        let condition = private_if.map(|condition| format!("if {condition}, ")).unwrap_or_default();
        match self {
            Self::UnknownIssuer { self_signed: true, .. } => format!(
                "its certificate is not from a CA that this host trusts, but signed by itself; {condition}give that \
                 certificate in ca_file"
            ),
            Self::UnknownIssuer { issuer: Some(issuer), .. } => {
                let issuer = issuer.quoted();
                format!(
                    "its certificate is not from a CA that this host trusts: what the server sends leads to {issuer} and no \
                     further; {condition}give the certificate of {issuer} in ca_file, or, if that is an intermediate CA, let \
                     the server send its certificate along"
                )
            }
            Self::UnknownIssuer { issuer: None, .. } => format!(
                "its certificate is not from a CA that this host trusts; {condition}give that CA's certificate in ca_file"
            ),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str(
                "its certificate names no host in subjectAltName, and the common name does not count; have one issued with \
                 the server's DNS name in subjectAltName",
            ),
            Self::OtherName { names } if names.is_empty() => {
                f.write_str("its certificate is for another host name; use a name that stands in its subjectAltName")
            }
            Self::OtherName { names } => {
                let shown: Vec<_> = names.iter().take(NAMES).map(|name| name.quoted().to_string()).collect();
                let more = if names.len() > NAMES { " and others" } else { "" };
                let shown = shown.join(", ");
                write!(f, "its certificate is for another host name: for {shown}{more}; use one of these names for the server")
            }
            Self::Expired => f.write_str("its certificate has expired, or this host's clock is wrong; have it renewed"),
            Self::NotValidYet => f.write_str("its certificate is not valid yet, or this host's clock is wrong"),
            Self::UnknownIssuer { .. } => f.write_str(&self.sentence(None)),
            Self::OtherIssuer { issuer } => {
                f.write_str("its certificate is not signed with the key of the CA")?;
                if let Some(issuer) = issuer {
                    write!(f, " {}", issuer.quoted())?;
                }
                f.write_str(
                    " that this host trusts, but by another of the same name; if that CA has a new key, give its present \
                     certificate in ca_file",
                )
            }
            Self::IsCa => f.write_str(
                "its certificate is a CA's (basicConstraints CA:TRUE), and a server may not show such a one, trusted or not; \
                 have one issued for the server with CA:FALSE",
            ),
            Self::Purpose => f.write_str(
                "its certificate is not for servers: extendedKeyUsage has no serverAuth; have one issued with it (Microsoft's \
                 template \"Domain Controller Authentication\" or \"Kerberos Authentication\" for a domain controller)",
            ),
            Self::WeakKey { bits, of_ca } => {
                match of_ca {
                    Some(ca) => write!(f, "its certificate is from the CA {}, whose key is too short", ca.quoted())?,
                    None => f.write_str("the key of its certificate is too short")?,
                }
                write!(f, ": RSA with {bits} bits, and {MIN_RSA_BITS} are the least; have one issued with a longer key")
            }
            Self::Signature => f.write_str(
                "its certificate is not signed by its CA, or in a way that is not taken (SHA-1, for one); have it issued \
                 with SHA-256 and RSA of 2048 bits or more, P-256 or P-384",
            ),
            Self::Revoked => f.write_str("its certificate was revoked; have another one issued"),
            Self::Version => f.write_str("its certificate is of X.509 version 1; have one issued of version 3"),
            Self::Malformed => f.write_str("its certificate can't be read; have another one issued"),
            Self::Rule => f.write_str(
                "its certificate, or that of a CA above it, breaks a rule for certificates (RFC 5280: name constraints, path \
                 length, an extension that is not known); have it issued anew",
            ),
        }
    }
}

impl std::error::Error for CertificateFault {}

/// As far as it is known without the certificate.
impl From<&CertificateError> for CertificateFault {
    fn from(refused: &CertificateError) -> Self {
        use CertificateError as Refused;
        match refused {
            Refused::Other(OtherError(other)) => other.downcast_ref::<Self>().cloned().unwrap_or(Self::Rule),
            Refused::UnknownIssuer => Self::UnknownIssuer { issuer: None, self_signed: false },
            Refused::NotValidForName | Refused::NotValidForNameContext { .. } => Self::OtherName { names: Vec::new() },
            Refused::Expired | Refused::ExpiredContext { .. } => Self::Expired,
            Refused::NotValidYet | Refused::NotValidYetContext { .. } => Self::NotValidYet,
            Refused::Revoked => Self::Revoked,
            Refused::BadEncoding => Self::Malformed,
            Refused::InvalidPurpose | Refused::InvalidPurposeContext { .. } => Self::Purpose,
            Refused::BadSignature
            | Refused::UnsupportedSignatureAlgorithmContext { .. }
            | Refused::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::Signature,
            #[expect(deprecated, reason = "older parts of the library may still give it")]
            Refused::UnsupportedSignatureAlgorithm => Self::Signature,
            _ => Self::Rule,
        }
    }
}

/// What is looked at of a certificate.
struct Seen {
    /// As it is encoded, for comparing.
    name: Vec<u8>,
    issuer_name: Vec<u8>,
    subject: Untrusted,
    issuer: Untrusted,
    /// 0 of another kind of key.
    rsa_bits: usize,
    outdated: bool,
}

impl Seen {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let rsa_bits = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => key.key_size(),
            _ => 0,
        };
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        Self {
            name: certificate.subject().as_raw().to_vec(),
            issuer_name: certificate.issuer().as_raw().to_vec(),
            subject: short(certificate.subject()),
            issuer: short(certificate.issuer()),
            rsa_bits,
            outdated: OUTDATED.contains(&algorithm.as_str()),
        }
    }

    fn weak(&self) -> Option<usize> {
        (1..MIN_RSA_BITS).contains(&self.rsa_bits).then_some(self.rsa_bits)
    }
}

/// The common name, or else all of it.
fn short(name: &X509Name<'_>) -> Untrusted {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| Untrusted::from(name.to_string()), Untrusted::from)
}

/// For which hosts it is.
fn named(leaf: &X509Certificate<'_>) -> CertificateFault {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return CertificateFault::NoName };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(Untrusted::from(*name)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| Untrusted::from(address.to_string())),
        _ => None,
    });
    match names.collect::<Vec<_>>() {
        none if none.is_empty() => CertificateFault::NoName,
        names => CertificateFault::OtherName { names },
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let of_four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    of_four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The last of those that lead up from a certificate, among what was sent with it.
fn last<'a>(leaf: &'a Seen, sent: &'a [Seen]) -> &'a Seen {
    let mut last = leaf;
    // Each is passed once.
    for _ in sent {
        match sent.iter().find(|above| above.name == last.issuer_name && last.name != last.issuer_name) {
            Some(above) => last = above,
            None => break,
        }
    }
    last
}

/// Up to whom the chain leads that was sent.
fn unknown(leaf: &Seen, sent: &[Seen], trusted: &[Seen]) -> CertificateFault {
    let (last, self_signed) = (last(leaf, sent), leaf.name == leaf.issuer_name);
    if !self_signed && trusted.iter().any(|ca| ca.name == last.issuer_name) {
        return CertificateFault::OtherIssuer { issuer: Some(last.issuer.clone()) };
    }
    CertificateFault::UnknownIssuer { issuer: Some(last.issuer.clone()), self_signed }
}

/// Whether it may be shown by a server (RFC 5280 §4.2.1.12).
fn for_servers(leaf: &X509Certificate<'_>) -> bool {
    let usage = leaf.extended_key_usage().ok().flatten();
    usage.is_none_or(|usage| usage.value.server_auth || usage.value.any)
}

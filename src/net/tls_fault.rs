//! Why there is no TLS with a server, in one sentence with what to do about it: for whatever error the library's stands in.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

use super::certificate::CertificateFault;

/// What to say of a failed handshake. `private_if` says when a CA of one's own is to be expected.
#[must_use]
pub fn sentence(error: &rustls::Error, private_if: Option<&str>) -> String {
    use AlertDescription as Alert;
    let said = match error {
        rustls::Error::InvalidCertificate(refused) => return CertificateFault::from(refused).sentence(private_if),
        rustls::Error::NoCertificatesPresented => "it shows no certificate",
        rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => {
            "it takes none of the cipher suites that are offered: those of TLS 1.3, and of TLS 1.2 those with ECDHE and AES-GCM \
             or ChaCha20. Allow one of them there; suites with CBC alone are not enough"
        }
        rustls::Error::AlertReceived(Alert::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "it speaks neither TLS 1.2 nor TLS 1.3; allow one of them there",
        rustls::Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => {
            "its TLS 1.2 has no extended master secret (RFC 7627); update it, or allow TLS 1.3 there"
        }
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            "it wants a certificate of this host's, and got none"
        }
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => "it refuses this host, or the certificate that this host shows",
        rustls::Error::AlertReceived(Alert::UnrecognisedName) => "it knows no host of this name",
        rustls::Error::AlertReceived(Alert::NoApplicationProtocol) | rustls::Error::NoApplicationProtocol => {
            "it does not speak what is asked for behind TLS (ALPN)"
        }
        rustls::Error::AlertReceived(Alert::InternalError) => {
            "it has broken off TLS for a trouble of its own: see its log"
        }
        rustls::Error::AlertReceived(_) => "it has broken off TLS: see its log",
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => "what answers there does not speak TLS",
        rustls::Error::FailedToGetCurrentTime => "this host has no time",
        rustls::Error::FailedToGetRandomBytes => "this host has no random numbers",
        _ => "what answers there does not keep to the rules of TLS",
    };
    format!("TLS failed: {said}")
}

/// The library's error that this one is, or was made of.
#[must_use]
pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = itself(error) {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// The library's error in which this one ends, without its causes.
pub(super) fn itself<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // The cause of an error of input and output is not what it was made of, but the cause of that.
    if let Some(io) = error.downcast_ref::<io::Error>() {
        let inner: &'a (dyn Error + 'static) = io.get_ref()?;
        return itself(inner);
    }
    // As some libraries keep what they share.
    let shared: &'a (dyn Error + 'static) = &**error.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    itself(shared)
}

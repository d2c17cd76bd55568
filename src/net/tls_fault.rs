//! Why there is no TLS with a server, in one sentence with what to do about it: for whatever error the library's stands in.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

use super::certificate::CertificateFault;

/// What is said of a server that knows its clients by certificates, for whoever can say which setting is missing.
pub const WANTS_A_CERTIFICATE: &str = "it wants a certificate of this host's, and got none";

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
        rustls::Error::AlertReceived(Alert::CertificateRequired) => WANTS_A_CERTIFICATE,
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

/// What to say of a certificate and a private key that this host was to show, and that are no use.
#[must_use]
pub fn of_own_files(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InconsistentKeys(_) => "the private key is not that of the certificate",
        rustls::Error::InvalidCertificate(_) => "the certificate can't be read as one of X.509 version 3",
        _ => "the private key is of a kind that is not taken; RSA, P-256, P-384 or Ed25519 is expected",
    }
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

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, InconsistentKeys, PeerMisbehaved};

    use super::*;

    #[test]
    fn an_error_is_found_in_whatever_it_was_put_and_nothing_of_its_own_words_is_left() {
        let tls = || rustls::Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived);
        let io = || io::Error::new(io::ErrorKind::InvalidData, tls());
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(io());
        let boxed: Box<dyn Error> = Box::new(io::Error::other(io()));
        for error in [&tls() as &(dyn Error + 'static), &io(), &shared, &*boxed] {
            let said = sentence(of(error).unwrap(), None);
            assert_eq!(said, "TLS failed: what answers there does not keep to the rules of TLS");
        }
        assert!(of(&io::Error::other("no TLS")).is_none());
    }

    #[test]
    fn without_a_certificate_to_look_at_the_fault_has_a_sentence_all_the_same() {
        for (fault, expected) in [
            (CertificateError::UnknownIssuer, "not from a CA that this host trusts; if it is private, give that CA's"),
            (CertificateError::NotValidForName, "for another host name"),
            (CertificateError::Expired, "has expired"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::BadSignature, "SHA-256"),
            (CertificateError::InvalidPurpose, "serverAuth"),
            (CertificateError::Revoked, "was revoked"),
            (CertificateError::BadEncoding, "can't be read"),
            (CertificateError::UnhandledCriticalExtension, "RFC 5280"),
        ] {
            let said = sentence(&rustls::Error::InvalidCertificate(fault), Some("it is private"));
            assert!(said.starts_with("its certificate") && said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_pair_that_is_none_is_said_to_be_so() {
        let said = of_own_files(&rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch));
        assert_eq!(said, "the private key is not that of the certificate");
    }
}

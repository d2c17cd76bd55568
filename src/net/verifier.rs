//! Verifies a server's certificate as the platform does, and says what is wrong with one that it refuses.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::certificate::CertificateFault;

/// The platform's verifier, and the CAs that it trusts beside the system's.
#[derive(Debug)]
pub(super) struct Explaining {
    pub(super) platform: Verifier,
    pub(super) trusted: Vec<CertificateDer<'static>>,
}

impl Explaining {
    fn explained(&self, error: Error, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> Error {
        match error {
            Error::InvalidCertificate(refused) => {
                let fault = CertificateFault::of(&refused, leaf, sent, &self.trusted);
                Error::InvalidCertificate(fault.into_error())
            }
            other => other,
        }
    }
}

/// What the server has signed the handshake with is not taken: perhaps for its key.
fn of_the_key(error: Error, leaf: &CertificateDer<'_>) -> Error {
    let weak = CertificateFault::of_key(leaf);
    weak.map_or(error, |fault| Error::InvalidCertificate(fault.into_error()))
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.platform.verify_server_cert(leaf, sent, name, ocsp_response, now);
        verified.map_err(|error| self.explained(error, leaf, sent))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.platform.verify_tls12_signature(message, leaf, signature);
        verified.map_err(|error| of_the_key(error, leaf))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.platform.verify_tls13_signature(message, leaf, signature);
        verified.map_err(|error| of_the_key(error, leaf))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.platform.supported_verify_schemes()
    }
}

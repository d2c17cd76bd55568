//! How long a domain controller's certificate is good.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::UnixTime;

/// A certificate that ends sooner than this, in days, should be renewed.
const RENEW_DAYS: i64 = 14;

/// How long it is good, in whole days, and whether that is long enough.
pub(super) fn days_left(certificate: &[u8], now: UnixTime) -> Option<(i64, bool)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let days = (certificate.validity().not_after.timestamp() - now.0).div_euclid(24 * 3600);
    Some((days, days >= RENEW_DAYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_end() {
        assert_eq!(days_left(b"0", UnixTime(0)), None);
        assert_eq!(days_left(&[], UnixTime(0)), None);
    }
}

//! Which ways of authentication a proxy offers (RFC 9110 §11.6.1): one field may hold several challenges, and commas stand
//! between challenges as well as between the parameters of one.

use http::HeaderMap;
use http::header::PROXY_AUTHENTICATE;

/// More than any proxy offers.
const MAX_SCHEMES: usize = 8;

/// The schemes that `Proxy-Authenticate` names, in its fields and within each.
pub(super) fn schemes(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(PROXY_AUTHENTICATE).iter().map(|field| String::from_utf8_lossy(field.as_bytes()));
    let named = fields.flat_map(|field| elements(&field).iter().filter_map(|part| scheme(part)).collect::<Vec<_>>());
    named.take(MAX_SCHEMES).collect()
}

/// What stands between the commas that are not within quotes.
fn elements(field: &str) -> Vec<String> {
    let (mut found, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in field.chars() {
        let separates = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        match found.last_mut() {
            Some(last) if !separates => last.push(c),
            _ => found.push(String::new()),
        }
    }
    found
}

/// The scheme with which an element begins; none if it is a further parameter, `name=value`.
fn scheme(element: &str) -> Option<String> {
    let element = element.trim();
    let end = element.find(|c: char| !is_token(c)).unwrap_or(element.len());
    let (token, rest) = element.split_at(end);
    let parameter = rest.trim_start().starts_with('=');
    let separate = rest.is_empty() || rest.starts_with([' ', '\t']);
    (!token.is_empty() && token.len() <= 64 && separate && !parameter).then(|| token.to_owned())
}

/// RFC 9110 §5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_with_several_challenges_is_read_like_several_fields() {
        for (fields, expected) in [
            (&["Basic realm=\"x\""][..], &["Basic"][..]),
            (&["Negotiate, NTLM, Basic realm=\"x\""], &["Negotiate", "NTLM", "Basic"]),
            (&["Negotiate,NTLM,Basic realm=\"x\", charset=\"UTF-8\""], &["Negotiate", "NTLM", "Basic"]),
            (&["Basic realm=\"a, NTLM\", Digest realm = \"b\", qop=\"auth,auth-int\""], &["Basic", "Digest"]),
            (&["Basic realm=\"say \\\"hi\\\", Digest\" , charset=UTF-8"], &["Basic"]),
            // A token68 may end with equals signs.
            (&["Negotiate YIIC/+==, basic realm=x"], &["Negotiate", "basic"]),
            (&["NTLM TlRM==", "Kerberos", "BASIC"], &["NTLM", "Kerberos", "BASIC"]),
            (&[", ,Basic ,, NTLM,"], &["Basic", "NTLM"]),
            (&["realm=\"x\"", "\"Basic\"", "", "a=b"], &[]),
            (&["Basic realm=\"never closed, NTLM"], &["Basic"]),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(PROXY_AUTHENTICATE, field.parse().unwrap());
            }
            assert_eq!(schemes(&headers), expected, "{fields:?}");
        }
        let mut many = HeaderMap::new();
        many.append(PROXY_AUTHENTICATE, "a,".repeat(1000).parse().unwrap());
        assert_eq!(schemes(&many).len(), MAX_SCHEMES);
    }
}

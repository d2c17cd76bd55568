//! The HTTP proxy on the way out: which one, for which hosts, and who we are to it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::uri::Authority;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::no_proxy::{NoProxy, is_this_host};

/// Which proxy HTTPS goes through, in the order in which they count; curl looks at the small letters first, too.
pub(super) const HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// The same of plain HTTP.
pub(super) const HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Why a text names no proxy. It never repeats the text, in which a password may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Not of the form.
    #[error("http://HOST:PORT is expected, or http://USER:PASSWORD@HOST:PORT with special characters as %XX")]
    Form,
    /// SOCKS, for example.
    #[error("only proxies that speak HTTP are supported: http://HOST:PORT")]
    Scheme,
    /// The same thing in two places.
    #[error("the user name stands in the URL and in a field of its own: give it once")]
    TwoUsers,
}

/// An HTTP proxy. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Whether the proxy itself is spoken to over TLS.
    pub(super) tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Basic credentials (RFC 7617).
    pub(super) authorization: Option<HeaderValue>,
}

impl FromStr for Proxy {
    type Err = ProxyUrlError;

    /// `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`; credentials before an `@`.
    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let (tls, rest) = match text.trim().split_once("://") {
            None => (false, text.trim()),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(ProxyUrlError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let place: Authority = place.parse().map_err(|_| ProxyUrlError::Form)?;
        // A port that is no number is as good as none to the type.
        let port = match (place.port_u16(), place.as_str() == place.host()) {
            (Some(port), _) => port,
            (None, true) if tls => 443,
            (None, true) => 80,
            (None, false) => return Err(ProxyUrlError::Form),
        };
        let host = place.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(ProxyUrlError::Form);
        }
        let proxy = Self { tls, host, port, authorization: None };
        let Some(user) = user else { return Ok(proxy) };
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let decoded = |text| percent_decode_str(text).decode_utf8().map(|text| Zeroizing::new(text.into_owned())).ok();
        let (user, password) = decoded(user).zip(decoded(password)).ok_or(ProxyUrlError::Form)?;
        proxy.with_credentials(&user, &password)
    }
}

impl Proxy {
    /// The same, with these credentials.
    ///
    /// # Errors
    /// If there are credentials already, or a colon in the user name.
    pub fn with_credentials(mut self, user: &str, password: &str) -> Result<Self, ProxyUrlError> {
        if self.authorization.is_some() {
            return Err(ProxyUrlError::TwoUsers);
        }
        if user.contains(':') {
            return Err(ProxyUrlError::Form);
        }
        let basic = Zeroizing::new(STANDARD.encode(Zeroizing::new(format!("{user}:{password}")).as_bytes()));
        let basic = Zeroizing::new(format!("Basic {}", *basic));
        let mut value = HeaderValue::from_str(&basic).map_err(|_| ProxyUrlError::Form)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Whether it has credentials.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// How the way out is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// As `HTTPS_PROXY` (or `ALL_PROXY`) and `NO_PROXY` in the environment say, in small letters or large.
    #[default]
    Environment,
    /// Directly, whatever the environment says.
    Direct,
    /// Through this proxy, whatever the environment says.
    Proxy(Proxy),
}

/// A variable of the environment names no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment's {variable}: {error}")]
pub struct EnvironmentError {
    variable: &'static str,
    error: ProxyUrlError,
}

/// The proxy that the environment names for each host. This host itself is always reached directly.
#[derive(Clone, Default)]
pub(super) struct Environment {
    /// The variable, and its value, in which a password may stand.
    named: Option<(&'static str, Zeroizing<String>)>,
    except: NoProxy,
}

impl Environment {
    /// `variable` looks into the environment; one of `variables` names the proxy.
    pub(super) fn new(variables: [&'static str; 4], variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&'static str| variable(name).filter(|value| !value.trim().is_empty());
        let named = variables.iter().find_map(|name| Some((*name, Zeroizing::new(set(name)?))));
        let Ok(except) = EXCEPTIONS.iter().find_map(set).unwrap_or_default().parse();
        Self { named, except }
    }

    fn passes_by(&self, host: &str, port: u16) -> bool {
        is_this_host(host) || self.except.covers(host, port)
    }
}

/// The proxy for each host.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    proxy: Option<Result<Proxy, EnvironmentError>>,
    /// Absent if the proxy is for every host.
    environment: Option<Environment>,
}

impl Proxies {
    /// `variable` looks into the environment, where one of `variables` names the proxy. What is no proxy there is told to
    /// whoever would go through it.
    pub(super) fn new(via: &Via, variables: [&'static str; 4], variable: impl Fn(&str) -> Option<String>) -> Self {
        match via {
            Via::Direct => Self::default(),
            Via::Proxy(proxy) => Self { proxy: Some(Ok(proxy.clone())), environment: None },
            Via::Environment => {
                let environment = Environment::new(variables, variable);
                let proxy = environment
                    .named
                    .as_ref()
                    .map(|(variable, url)| url.parse().map_err(|error| EnvironmentError { variable, error }));
                Self { proxy, environment: Some(environment) }
            }
        }
    }

    /// # Errors
    /// If the environment names none for this host that is of use.
    pub(super) fn of(&self, host: &str, port: u16) -> Result<Option<&Proxy>, EnvironmentError> {
        let passes_by = |environment: &Environment| environment.passes_by(host, port);
        let proxy = self.proxy.as_ref().filter(|_| !self.environment.as_ref().is_some_and(passes_by));
        proxy.map(|proxy| proxy.as_ref().map_err(Clone::clone)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(via: &Via, variables: &[(&str, &str)]) -> Proxies {
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Proxies::new(via, HTTPS, set)
    }

    #[test]
    fn a_proxys_url_is_read_and_its_password_is_never_shown() {
        for (text, shown, basic) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128", None),
            ("proxy.corp:3128/", "http://proxy.corp:3128", None),
            ("https://proxy.corp", "https://proxy.corp:443", None),
            ("http://[::1]:3128", "http://[::1]:3128", None),
            // user:p@ss:word
            ("http://user:p%40ss:word@proxy.corp:3128", "http://proxy.corp:3128", Some("Basic dXNlcjpwQHNzOndvcmQ=")),
            ("http://user@proxy.corp:3128", "http://proxy.corp:3128", Some("Basic dXNlcjo=")),
        ] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), format!("Proxy({shown})"));
            assert_eq!(proxy.authorization.as_ref().map(|value| value.to_str().unwrap()), basic, "{text}");
            assert!(proxy.authorization.is_none_or(|value| value.is_sensitive()));
        }
        for (text, expected) in [
            ("", ProxyUrlError::Form),
            ("http://", ProxyUrlError::Form),
            ("http://u:secret@", ProxyUrlError::Form),
            ("http://proxy:99999", ProxyUrlError::Form),
            ("http://proxy:", ProxyUrlError::Form),
            ("http://u:secret@proxy/path", ProxyUrlError::Form),
            ("socks5://u:secret@proxy:1080", ProxyUrlError::Scheme),
        ] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert!(error == expected && !error.to_string().contains("secret"), "{text}: {error}");
        }
        let twice = "http://u:p@proxy:1".parse::<Proxy>().unwrap().with_credentials("u", "p");
        assert_eq!(twice, Err(ProxyUrlError::TwoUsers));
    }

    #[test]
    fn the_environment_is_asked_as_curl_asks_it() {
        let of = |variables: &[(&str, &str)]| {
            let proxies = proxies(&Via::Environment, variables);
            proxies.of("relay.example", 443).unwrap().map(|proxy| proxy.host.clone())
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("ALL_PROXY", "http://b:1")]), named("a"));
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://c:1")]), named("c"));
        assert_eq!(of(&[("https_proxy", ""), ("all_proxy", "b:1")]), named("b"));
        // That one is for plain HTTP.
        assert_eq!(of(&[("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://a:1")]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "other,.example")]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "*"), ("no_proxy", "other")]), named("a"));
        let socks = proxies(&Via::Environment, &[("HTTPS_PROXY", "socks5://u:secret@a:1"), ("NO_PROXY", ".corp")]);
        let error = socks.of("relay.example", 443).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("secret"), "{error}");
        assert_eq!(socks.of("relay.corp", 443), Ok(None), "who does not go through it need not know");
    }

    #[test]
    fn this_host_is_reached_directly_whatever_the_environment_says_and_not_what_is_configured() {
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            for url in ["http://a:1", "socks5://a:1"] {
                let named = proxies(&Via::Environment, &[(variable, url), ("NO_PROXY", "")]);
                for host in ["localhost", "127.0.0.1", "127.64.0.1", "[::1]", "relay.localhost"] {
                    assert_eq!(named.of(host, 8443), Ok(None), "{variable} {url} {host}");
                }
            }
        }
        let configured = Via::Proxy("http://b:1".parse().unwrap());
        assert_eq!(proxies(&configured, &[]).of("localhost", 8443).unwrap().unwrap().host, "b");
    }

    #[test]
    fn plain_http_has_variables_of_its_own() {
        let set = |name: &str| match name {
            "http_proxy" => Some(" a:1".to_owned()),
            "https_proxy" => Some("http://u:p@b:1".to_owned()),
            "no_proxy" => Some("c".to_owned()),
            _ => None,
        };
        let [http, https] = [HTTP, HTTPS].map(|variables| Proxies::new(&Via::Environment, variables, set));
        let of = |proxies: &Proxies, host: &str, port| proxies.of(host, port).unwrap().map(ToString::to_string);
        assert_eq!(of(&http, "relay.example", 80).as_deref(), Some("http://a:1"));
        assert_eq!(of(&https, "relay.example", 443).as_deref(), Some("http://b:1"));
        for host in ["c", "localhost"] {
            assert_eq!((of(&http, host, 80), of(&https, host, 443)), (None, None), "{host}");
        }
    }

    #[test]
    fn what_is_configured_overrides_the_environment() {
        let variables = [("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "*")];
        let configured = Via::Proxy("http://b:1".parse().unwrap());
        assert_eq!(proxies(&configured, &variables).of("relay.example", 443).unwrap().unwrap().host, "b");
        assert_eq!(proxies(&Via::Direct, &variables[..1]).of("relay.example", 443), Ok(None));
    }
}

//! TLS: which servers the agent talks to, and what it says about the others.

use writeback_relay::agent::directory::Directory;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};

use super::{NEW, OLD, config, in_time, password, unavailable, upn};
use crate::support::proxy::Proxy;
use crate::support::samba::{Ou, dc};

async fn why_not(config: &Config) -> String {
    unavailable(ActiveDirectory::new(config).unwrap().find(&upn("a@example.test")).await)
}

#[tokio::test]
async fn a_reset_works_over_starttls() {
    let mut config = config();
    (config.url, config.start_tls) = (vec![dc().ldap_url()], true);
    let directory = ActiveDirectory::new(&config).unwrap();
    let user = dc().create_user("stella", Ou::Staff, OLD).await;
    let account = directory.find(&upn(&user.upn)).await.unwrap();
    directory.reset_password(&account, &password(NEW), Default::default(), &in_time()).await.unwrap();
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
}

#[tokio::test]
async fn plain_ldap_is_refused_before_anything_is_sent() {
    let mut config = config();
    config.url = vec![dc().ldap_url()];
    let error = ActiveDirectory::new(&config).err().unwrap().to_string();
    assert!(error.contains(&dc().ldap_url()) && error.contains("start_tls"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused() {
    for start_tls in [false, true] {
        let mut config = config();
        config.ca_file = None;
        (config.url, config.start_tls) =
            if start_tls { (vec![dc().ldap_url()], true) } else { (vec![dc().ldaps_url()], false) };
        let error = why_not(&config).await;
        assert!(error.starts_with("127.") && error.contains("ca_file"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_name_is_refused() {
    let proxy = Proxy::start(dc().ldaps_address()).await;
    let mut config = config();
    config.url = vec![format!("ldaps://127.0.0.1:{}", proxy.port())];
    let error = why_not(&config).await;
    assert!(error.contains(&format!("127.0.0.1:{}", proxy.port())) && error.contains("host name"), "{error}");
}

#[tokio::test]
async fn a_ca_file_without_a_certificate_is_refused_at_the_start() {
    let mut config = config();
    config.ca_file = Some(config.bind_password_file.clone());
    let error = ActiveDirectory::new(&config).err().unwrap().to_string();
    assert!(error.contains("ca_file") && error.contains("service-password"), "{error}");
}

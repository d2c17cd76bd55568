//! `setup`, of an agent that was set up before, in a network that hides its domain, without any domain, and with the files
//! that Windows makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use writeback_relay::storage::PrivateFile;

use super::OLD;
use crate::support::agent::Agent;
use crate::support::dns::Dns;
use crate::support::portal_cli::PortalCli;
use crate::support::proxy::Proxy;
use crate::support::pty::Pty;
use crate::support::relay::Relay;
use crate::support::samba::{SERVICE_PASSWORD, dc};

const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

/// A text as PowerShell writes it into a file, which nobody else may read.
fn from_windows(path: &Path, text: &str) -> String {
    PrivateFile::new(path).replace("").unwrap();
    let bytes: Vec<u8> = format!("\u{feff}{text}\r\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(path, bytes).unwrap();
    path.display().to_string()
}

fn openssl(arguments: &[&str], from: &Path, to: PathBuf) -> String {
    let done = Command::new("openssl").args(arguments).arg(from).arg("-out").arg(&to).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    to.display().to_string()
}

#[tokio::test]
async fn files_that_windows_makes_are_taken_and_units_account_and_controllers_are_changed_later() {
    let (first, second) =
        (dc().create_unit("again-1", dc().base_dn()).await, dc().create_unit("again-2", dc().base_dn()).await);
    let (one, other) = (dc().create_service("svc-again").await, dc().create_service("svc-other").await);
    for unit in [&first, &second] {
        dc().create_user_in("again", unit, OLD).await;
    }
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    let home = agent.home();
    std::fs::remove_file(home.join("agent.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let code = from_windows(&file("code.txt"), &portal.invite().await);
    let password = from_windows(&file("password.txt"), SERVICE_PASSWORD);
    let relay_ca = openssl(&["x509", "-outform", "DER", "-in"], &relay.ca_file(), file("relay.cer"));
    let ca = openssl(&["crl2pkcs7", "-nocrl", "-certfile"], &dc().ca_file(), file("corp.p7b"));
    let (administrator, administrators) = dc().administrator_account();
    let administrators = from_windows(&file("administrators.txt"), administrators);
    let url = dc().ldaps_url();
    let grant = ["--grant", administrator, "--grant-password-file", &administrators];
    let asked = ["setup", "--no-questions", "--code-file", &code, "--relay-ca-file", &relay_ca, "--directory", &url];
    let more = ["--directory-ca-file", &ca, "--service-account", &one.user.upn, "--unit", &first];
    let account = ["--service-account-password-file", &password];
    let said = agent.call(&[&asked[..], &more, &account, &grant].concat()).await;
    assert!(said.status == 0 && said.out.contains("Enrolled as agent"), "{said:?}");
    let identity = std::fs::read(home.join("identity.json")).unwrap();
    let written = || std::fs::read_to_string(home.join("agent.toml")).unwrap();
    // Somebody adds something of his own.
    let own = written().replace("[directory]\n", "[directory]\n# Ours, in Berlin.\noperation_timeout_seconds = 20\n");
    std::fs::write(home.join("agent.toml"), &own).unwrap();

    // By a flag: that alone, and nothing is asked.
    let said = agent.call(&[&["setup", "--no-questions", "--unit", &second][..], &grant].concat()).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(written(), own.replace(&first, &second));

    // By a person, who sees what there is and changes the account.
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);
    terminal.answer("Change the directory", "y").await;
    terminal.shows(&format!("[{url}]: ")).await;
    terminal.types("");
    terminal.shows(" answers.").await;
    terminal.shows(&format!("[{}]: ", one.user.upn)).await;
    terminal.types(&other.user.upn);
    terminal.answer("Its password", "Wrong-Passw0rd1").await;
    // Who served before can see how near the other one is to being locked.
    terminal.shows("1 of the 3 wrong passwords after which this domain locks").await;
    terminal.answer("Service account (", "").await;
    terminal.answer("Its password", SERVICE_PASSWORD).await;
    terminal.shows(&format!("[{second}]: ")).await;
    terminal.types(&format!("{first}; {second}"));
    terminal.answer("Give them now", "y").await;
    terminal.answer("Administrator (", administrator).await;
    terminal.answer("Password, used once", dc().administrator_account().1).await;
    terminal.shows("0 failed").await;
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    let expected = own.replace(&format!("\"{first}\""), &format!("\"{first}\", \"{second}\""));
    assert_eq!(written(), expected.replace(&one.user.upn, &other.user.upn));

    // The same password is kept by Enter, and so is everything else.
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);
    terminal.answer("Change the directory", "y").await;
    for question in ["The domain (", "Service account (", "[unchanged]: ", "Units to serve"] {
        terminal.answer(question, "").await;
    }
    terminal.shows("0 failed").await;
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    assert_eq!(written(), expected.replace(&one.user.upn, &other.user.upn));
    assert_eq!(std::fs::read(home.join("identity.json")).unwrap(), identity, "it is the same agent");

    // What can't be changed by answers is said, and left as it is.
    let several = "[directory]\nkind = \"active_directory\"\nbind_user = \"a@b\"\nbind_password_file = \"/x\"\n\
                   [[directory.domains]]\nname = \"corp.example\"\n";
    std::fs::write(home.join("agent.toml"), several).unwrap();
    let said = agent.call(&["setup", "--no-questions", "--unit", &second]).await;
    assert!(said.status == 1 && said.err.contains("several domains") && said.err.contains("by hand"), "{said:?}");
    assert_eq!(written(), several);
}

#[tokio::test]
async fn a_domain_that_only_its_own_name_servers_know_and_that_speaks_start_tls_is_asked_for_both() {
    let service = dc().create_service("svc-hidden").await;
    let (dns, ldap) = (Dns::start().await, Proxy::start(dc().ldap_address()).await);
    dns.controller(None, 0, "dc1.example.test", ldap.port());
    dns.host("dc1.example.test");
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    let home = agent.home();
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);
    terminal.answer("Enrolment code", &portal.invite().await).await;
    terminal.shows("It is reached.").await;
    terminal.answer("The domain (", "example.test").await;
    terminal.shows("   ! ").await;
    // It is right, and this host's name servers don't know it.
    terminal.answer("The domain (", "").await;
    terminal.answer("Name servers", "dns.example.test").await;
    terminal.shows("is not the address of a name server").await;
    terminal.answer("Name servers", &dns.address().to_string()).await;
    // LDAPS is not there.
    terminal.shows("port 636").await;
    terminal.answer("The domain (", "").await;
    terminal.answer("StartTLS", "y").await;
    terminal.answer("CA that signed its certificate: ", dc().ca_file().to_str().unwrap()).await;
    terminal.shows(" answers.").await;
    terminal.answer("Service account (", &service.user.upn).await;
    for tries in ["! ", "that was try 2"] {
        terminal.answer("Its password", "Wrong-Passw0rd1").await;
        terminal.shows(tries).await;
        terminal.answer("Service account (", "").await;
    }
    terminal.answer("Its password", SERVICE_PASSWORD).await;
    terminal.answer("Units to serve", "").await;
    terminal.shows("agent.toml is written.").await;
    let screen = terminal.screen();
    for of_an_agent in ["Mend it", "bind_password_file", "bind_user", "tried again when"] {
        assert!(!screen.contains(of_an_agent), "{of_an_agent}: {screen}");
    }
    let text = std::fs::read_to_string(home.join("agent.toml")).unwrap();
    let written = format!("domain = \"example.test\"\nstart_tls = true\nname_servers = [\"{}\"]\n", dns.address());
    assert!(text.contains(&written) && !text.contains("base_dn"), "{text}");
}

#[tokio::test]
async fn plain_ldap_is_offered_start_tls_at_once() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    let mut terminal = Pty::start(AGENT, &["--home", agent.home().to_str().unwrap(), "setup"]);
    terminal.answer("Enrolment code", &portal.invite().await).await;
    terminal.answer("The domain (", &dc().ldap_url()).await;
    terminal.shows("without encryption").await;
    terminal.answer("StartTLS", "y").await;
    terminal.answer("CA that signed its certificate: ", dc().ca_file().to_str().unwrap()).await;
    terminal.shows(" answers.").await;
}

#[tokio::test]
async fn a_directory_for_trials_needs_no_name_server_and_no_account() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let mut agent = Agent::new(&relay);
    let home = agent.home();
    let file = home.join("code");
    PrivateFile::new(&file).replace(&portal.invite().await).unwrap();
    let said =
        agent.call(&["setup", "--no-questions", "--directory", "demo", "--code-file", file.to_str().unwrap()]).await;
    assert!(said.status == 0 && said.out.contains("1 account, each with the password"), "{said:?}");
    agent.start();
    let fingerprint = said.out.lines().find_map(|line| line.trim().strip_prefix("Fingerprint  ")).unwrap();
    assert_eq!(portal.approve(agent.id(), fingerprint).await.status, 0);
    crate::support::eventually("it is usable", || async { portal.availability().await.status == 0 }).await;
    // Out of a file that an editor on Windows wrote, whose mark is no part of the password.
    assert_eq!(portal.reset("jane@corp.example", &format!("\u{feff}{}", super::NEW), &[]).await.status, 0);
    assert_eq!(portal.change("jane@corp.example", super::NEW, "Third-Passw0rd-3").await.status, 0);
}

//! `setup`, as an administrator goes through it: with every kind of mistake, from nothing to a first reset.

use super::{NEW, OLD, only_new_logs_on};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::pty::Pty;
use crate::support::relay::Relay;
use crate::support::samba::{Ou, SERVICE_PASSWORD, dc};

const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

/// docs/agent.md shows this screen, with other names and numbers: what it says stands there, in its order.
fn as_documented(screen: &str) {
    let document = std::fs::read_to_string("docs/agent.md").unwrap();
    let (_, shown) = document.split_once("did not know):\n").unwrap();
    let (shown, _) = shown.split_once("\nIt writes ").unwrap();
    let (mut rest, mut compared) = (screen, 0);
    for line in shown.lines().map(str::trim) {
        // As far as it is the same for everybody.
        let title = line.starts_with(|first: char| first.is_ascii_digit()) && line.get(1..3) == Some(". ");
        let from = if title { 2 } else { 0 };
        let text = line.get(from..).unwrap_or_default();
        let ends = [text.find([':', '[', '/', '!', '…', '0', '1', '2', '7', '9']), text.find("  ")];
        let fixed = &line[..ends.into_iter().flatten().min().map_or(line.len(), |at| from + at)];
        if fixed.len() < 8 || fixed.contains("svc-") || fixed.starts_with("systemctl") {
            continue;
        }
        let at = rest.find(fixed).unwrap_or_else(|| panic!("the screen does not show {fixed:?} there:\n{screen}"));
        rest = &rest[at + fixed.len()..];
        compared += 1;
    }
    assert!(compared > 20, "{compared} lines of {shown}");
}

#[tokio::test]
async fn a_person_at_a_terminal_comes_from_nothing_to_a_first_reset_whatever_he_mistypes() {
    let unit = dc().create_unit("setup", dc().base_dn()).await;
    let service = dc().create_service("svc-setup").await;
    let user = dc().create_user_in("setup", &unit, OLD).await;
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let code = portal.invite().await;
    let mut agent = Agent::new(&relay);
    let home = agent.home();
    std::fs::remove_file(home.join("agent.toml")).unwrap();
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);

    terminal.answer("Enrolment code", "not a code").await;
    // As a mail program has broken it; each line is an answer.
    let lines: Vec<_> = code.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    terminal.answer("Enrolment code", &format!("> {}", lines.join("\n> "))).await;
    terminal.shows("76 of some 400 characters arrived").await;
    terminal.shows(&format!(" of {} characters arrived", code.len())).await;
    terminal.shows("tenant contoso").await;
    // A certificate of a private CA.
    terminal.answer("CA that signed its certificate: ", "/nowhere/ca.pem").await;
    terminal.shows("/nowhere/ca.pem").await;
    terminal.answer("CA that signed its certificate: ", relay.ca_file().to_str().unwrap()).await;
    terminal.shows("It is reached.").await;

    // A wrong name is told at its own question, before the account is asked for.
    terminal.answer("The domain (", "http://dc1").await;
    terminal.shows("the scheme is ldaps or ldap").await;
    terminal.answer("The domain (", "ldaps://no-such-host.invalid").await;
    terminal.shows("no-such-host.invalid").await;
    terminal.answer("The domain (", &format!("{}:3269", dc().ldaps_url())).await;
    terminal.shows("global catalog").await;
    terminal.answer("The domain (", &dc().ldaps_url()).await;
    terminal.answer("CA that signed its certificate: ", dc().ca_file().to_str().unwrap()).await;
    terminal.shows(" answers.").await;
    terminal.answer("Service account (", &service.user.upn).await;
    terminal.answer("Its password", "Wrong-Passw0rd1").await;
    terminal.shows("! ").await;
    terminal.answer("Service account (", "").await;
    terminal.answer("Its password", SERVICE_PASSWORD).await;
    terminal.shows("can log on.").await;

    terminal.shows("the whole domain, DC=example,DC=test").await;
    terminal.shows(&format!("{unit}  ")).await;
    terminal.shows("1 user").await;
    terminal.answer("Units to serve", "1000").await;
    terminal.shows("there is no unit 1000").await;
    terminal.answer("Units to serve", "OU=Nowhere,DC=example,DC=test").await;
    terminal.shows("OU=Nowhere,DC=example,DC=test").await;
    terminal.answer("Units to serve", &unit).await;
    terminal.shows("agent.toml is written.").await;

    // Nobody has given the service account its rights yet. The commands are shown to whoever asks for them.
    terminal.shows("Reset Password is missing").await;
    terminal.shows("Give them now").await;
    let screen = terminal.screen();
    assert!(
        !screen.contains("dsacl") && !screen.contains("bind_password_file") && !screen.contains("mend it"),
        "{screen}"
    );
    terminal.types("n");
    terminal.answer("Show the commands", "y").await;
    terminal.shows("dsacls").await;
    terminal.answer("Check again?", "y").await;
    let (administrator, password) = dc().administrator_account();
    terminal.answer("Give them now", "y").await;
    // An account of the test's own: the administrator is everybody's here.
    let refused = dc().create_user("refused", Ou::Other, OLD).await;
    terminal.answer("Administrator (", &refused.upn).await;
    terminal.answer("Password, used once", "Wrong-Passw0rd1").await;
    terminal.shows("[y/N]: ").await;
    let screen = terminal.screen();
    let last: Vec<_> = screen.lines().rev().take(3).collect();
    assert!(last[2].contains("can't log on: no such account, or the password is wrong"), "{last:?}");
    assert!(last[1].contains("1 of the 3 wrong passwords after which this domain locks"), "{last:?}");
    assert!(last[0].contains("Try it again?"), "{last:?}");
    terminal.types("yes");
    terminal.answer("Administrator (", "").await;
    terminal.answer("Password, used once", "Wrong-Passw0rd1").await;
    terminal.shows("The next wrong one locks it.").await;
    terminal.answer("Try it again?", "y").await;
    terminal.answer("Administrator (", "").await;
    terminal.answer("Password, used once", OLD).await;
    // He may log on, and may not give rights.
    terminal.answer("Try it again?", "y").await;
    terminal.answer("Administrator (", administrator).await;
    terminal.answer("Password, used once", password).await;
    terminal.shows("now has the four rights").await;
    terminal.shows("0 failed").await;
    terminal.shows("writeback-portal approve").await;
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    let screen = terminal.screen();
    for secret in [password, SERVICE_PASSWORD, "Wrong-Passw0rd1", code.as_str()] {
        assert!(!screen.contains(secret), "{screen}");
    }
    as_documented(&screen);
    let written = std::fs::read_to_string(home.join("agent.toml")).unwrap();
    assert!(written.contains(&unit) && !written.contains(SERVICE_PASSWORD), "{written}");

    agent.start();
    let fingerprint = screen.lines().find_map(|line| line.trim().strip_prefix("Fingerprint  ")).unwrap();
    assert_eq!(portal.approve(agent.id(), fingerprint).await.status, 0);
    eventually("the agent is usable", || async { portal.availability().await.status == 0 }).await;
    assert_eq!(portal.reset(&user.upn, NEW, &[]).await.status, 0);
    only_new_logs_on(&user.upn).await;
    agent.event(31002, &user.upn).await;

    // Once more: everything is there, and the running agent is told to look again.
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);
    terminal.shows("is enrolled at").await;
    terminal.shows("is kept.").await;
    terminal.answer("[y/N]: ", "").await;
    terminal.shows("The agent runs, and checks again.").await;
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
}

#[tokio::test]
async fn without_questions_the_answers_come_from_flags_and_a_file_and_what_is_wrong_is_one_sentence() {
    let unit = dc().create_unit("unattended", dc().base_dn()).await;
    let service = dc().create_service("svc-unattended").await;
    dc().create_user_in("unattended", &unit, OLD).await;
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    let home = agent.home();
    std::fs::remove_file(home.join("agent.toml")).unwrap();
    let said = agent.call(&["setup"]).await;
    assert!(said.status == 1 && said.err.contains("give --code-file"), "{said:?}");

    let answers = home.join("answers.toml");
    let write = |code: &str, password: &str| {
        let text = format!(
            "code = {code:?}\nservice_account_password = {password:?}\nrelay_ca_file = {:?}\n",
            relay.ca_file()
        );
        writeback_relay::storage::PrivateFile::new(&answers).replace(&text).unwrap();
    };
    let code = portal.invite().await;
    let flags = |directory: &str, unit: &str| {
        let (file, ca) = (answers.display().to_string(), dc().ca_file().display().to_string());
        let flags = ["setup", "--no-questions", "--answers", &file, "--directory", directory, "--unit", unit];
        let more = ["--directory-ca-file", &ca, "--service-account", &service.user.upn];
        flags.iter().chain(&more).map(|flag| (*flag).to_owned()).collect::<Vec<_>>()
    };
    for (code, password, directory, unit, expected) in [
        ("nonsense", SERVICE_PASSWORD, dc().ldaps_url(), unit.as_str(), "enrolment code"),
        (&code, "Wrong-Passw0rd1", dc().ldaps_url(), &unit, "log on"),
        (&code, SERVICE_PASSWORD, "ldaps://no-such-host.invalid".to_owned(), &unit, "no-such-host.invalid"),
        (&code, SERVICE_PASSWORD, dc().ldaps_url(), "OU=Nowhere,DC=example,DC=test", "OU=Nowhere"),
    ] {
        write(code, password);
        let arguments = flags(&directory, unit);
        let said = agent.call(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let sentence = said.err.lines().rfind(|line| line.starts_with("writeback-agent: ")).unwrap_or_default();
        assert!(said.status == 1 && sentence.contains(expected), "{expected}: {said:?}");
        assert!(!home.join("agent.toml").exists() && !home.join("identity.json").exists(), "{expected}");
    }
    // Red: nobody has given the rights.
    write(&code, SERVICE_PASSWORD);
    let arguments = flags(&dc().ldaps_url(), &unit);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let said = agent.call(&arguments).await;
    assert!(
        said.status == 1 && said.err.contains("run setup again") && said.out.contains("samba-tool dsacl"),
        "{said:?}"
    );
    assert!(!home.join("identity.json").exists());
    let said = agent.call(&[&arguments[..], &["--despite-failures"]].concat()).await;
    assert!(said.status == 0 && said.out.contains("Enrolled as agent"), "{said:?}");
}

#[tokio::test]
async fn without_questions_an_administrators_credentials_give_the_rights_and_a_used_code_loses_no_answer() {
    let unit = dc().create_unit("granting", dc().base_dn()).await;
    let service = dc().create_service("svc-granting").await;
    dc().create_user_in("granting", &unit, OLD).await;
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let (agent, other) = (Agent::new(&relay), Agent::new(&relay));
    let home = agent.home();
    std::fs::remove_file(home.join("agent.toml")).unwrap();
    let used = portal.invite().await;
    assert_eq!(other.enroll(&used).await.status, 0);
    let (administrator, password) = dc().administrator_account();
    let file = home.join("answers.toml");
    let answers = |password: &str| {
        let text = format!(
            "code = {used:?}\nrelay_ca_file = {:?}\ndirectory = {:?}\ndirectory_ca_file = {:?}\nservice_account = {:?}\n\
             service_account_password = {SERVICE_PASSWORD:?}\nunits = [{unit:?}]\ngrant = {administrator:?}\n\
             grant_password = {password:?}\n",
            relay.ca_file(),
            dc().ldaps_url(),
            dc().ca_file(),
            service.user.upn,
        );
        writeback_relay::storage::PrivateFile::new(&file).replace(&text).unwrap();
    };
    let setup = ["setup", "--no-questions", "--answers", file.to_str().unwrap()];
    answers("Wrong-Passw0rd1");
    let said = agent.call(&setup).await;
    assert!(said.status == 1 && said.err.contains("can't log on") && !said.err.contains("Wrong-"), "{said:?}");
    answers(password);
    let said = agent.call(&setup).await;
    assert!(said.out.contains("now has the four rights") && said.out.contains("0 failed"), "{said:?}");
    assert!(said.status == 1 && said.err.contains("invitation_used"), "{said:?}");
    assert!(!(said.out + &said.err).contains(password));

    // Whoever sits at a terminal is asked for another one, and for nothing else.
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);
    terminal.answer("Enrolment code", &used).await;
    terminal.shows("is kept").await;
    terminal.answer("[y/N]: ", "").await;
    terminal.shows("invitation_used").await;
    terminal.answer("Enrolment code", &portal.invite().await).await;
    terminal.shows("Enrolled as agent").await;
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
}

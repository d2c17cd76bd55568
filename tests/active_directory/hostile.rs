//! Somebody on the way who answers in a controller's place, and controllers that answer what none does: the agent lives on in
//! little memory, says what was wrong, and asks the next controller where nothing can have been done.

use std::path::PathBuf;

use tempfile::TempDir;
use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Directory, DirectoryError, Written};
use writeback_relay::portal::Answer;
use writeback_relay::protocol::command::Options;
use writeback_relay::protocol::outcome::Status;
use writeback_relay::storage::PrivateFile;

use super::{NEW, OLD, config, in_time, password, unavailable, upn};
use crate::support::agent::Agent;
use crate::support::fake_dc::{ACCOUNT, FakeDc, Question};
use crate::support::hostile::{ATTACKS, Attack, OnTheWay};
use crate::support::relay::{Relay, tenant};
use crate::support::samba::{Ou, dc};
use crate::support::{PATIENCE, deadline};

/// What is said of it, at one question or another.
fn reasons(attack: Attack) -> &'static [&'static str] {
    const NOT_ASKED: &str = "it answers what was not asked";
    match attack {
        Attack::Nested => &["nested deeper than 16"],
        Attack::Indefinite => &["not LDAP: an indefinite length"],
        Attack::Announced => &["a message of 2147483653 bytes"],
        Attack::HugeText => &["a message of 2000000", "bytes, and at most 262144 are taken"],
        Attack::EmptyValues => &["more than 8192 elements"],
        Attack::Entries => &["more than 1000000 entries", "no answer within", NOT_ASKED],
        Attack::References => &["more than 256 references", NOT_ASKED],
        Attack::Trickled => &["did not end it within 1 s", "no answer within 1 s"],
        Attack::WrongId => &[NOT_ASKED],
        Attack::Unsolicited => &["it closed the connection", "the connection broke", "the connection is closed"],
        Attack::WrongOperation => &["not LDAP: an operation"],
        Attack::Http => &["not LDAP"],
    }
}

#[track_caller]
fn assert_reason(attack: Attack, said: &str) {
    assert!(reasons(attack).iter().any(|reason| said.contains(reason)), "{attack:?}: {said}");
}

/// A configuration that needs no Samba, for some of the fake controllers.
struct Fakes {
    config: Config,
    folder: TempDir,
}

impl Fakes {
    fn of(controllers: &[&FakeDc]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password = PrivateFile::new(folder.path().join("bind-password"));
        password.replace("anything").unwrap();
        let authorities: String = controllers.iter().map(|dc| std::fs::read_to_string(&dc.ca_file).unwrap()).collect();
        std::fs::write(folder.path().join("ca.pem"), authorities).unwrap();
        let config = Config {
            url: controllers.iter().map(|dc| dc.url.clone()).collect(),
            ca_file: Some(folder.path().join("ca.pem")),
            bind_password_file: password.path().to_owned(),
            operation_timeout_seconds: 1,
            ..config()
        };
        Self { config, folder }
    }

    fn directory(&self) -> ActiveDirectory {
        ActiveDirectory::new(&self.config).unwrap()
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

#[tokio::test]
async fn whoever_answers_starttls_in_the_controllers_place_is_refused_and_the_next_controller_is_asked() {
    let user = dc().create_user("ontheway", Ou::Staff, OLD).await;
    for attack in ATTACKS {
        let hostile = OnTheWay::answering(attack).await;
        let mut config = Config { start_tls: true, operation_timeout_seconds: 1, ..config() };
        config.url = vec![hostile.url.clone()];
        let alone = ActiveDirectory::new(&config).unwrap();
        let said = unavailable(deadline("an answer", alone.find(&upn(&user.upn))).await);
        assert_reason(attack, &said);
        config.url.push(dc().ldap_url());
        config.operation_timeout_seconds = 30;
        let both = ActiveDirectory::new(&config).unwrap();
        let found = deadline("an answer", both.find(&upn(&user.upn))).await;
        assert_eq!(found.unwrap().object_guid, user.guid, "{attack:?}");
    }
}

#[tokio::test]
async fn a_hostile_controller_is_refused_with_the_reason_and_the_next_one_is_asked() {
    for attack in ATTACKS {
        for question in [Question::RootDse, Question::Logon, Question::Account] {
            let (hostile, good) = (FakeDc::offering(&[]).await, FakeDc::offering(&[]).await);
            hostile.attack(question, attack);
            let alone = Fakes::of(&[&hostile]);
            let said = unavailable(deadline("an answer", alone.directory().find(&upn(ACCOUNT))).await);
            assert_reason(attack, &said);
            let both = Fakes::of(&[&hostile, &good]);
            let found = deadline("an answer", both.directory().find(&upn(ACCOUNT))).await;
            assert!(good.url.ends_with(&found.unwrap().controller), "{attack:?} at {question:?}");
        }
    }
}

#[tokio::test]
async fn a_hostile_answer_to_a_write_leaves_it_uncertain() {
    for attack in ATTACKS {
        let hostile = FakeDc::offering(&[]).await;
        let fakes = Fakes::of(&[&hostile]);
        let directory = fakes.directory();
        let account = directory.find(&upn(ACCOUNT)).await.unwrap();
        hostile.attack(Question::Modify, attack);
        let (new, in_time) = (password(NEW), in_time());
        let write = directory.reset_password(&account, &new, Options::default(), &in_time);
        let answer = match deadline("an answer", write).await {
            Ok(Written::UnderWay(answer)) => deadline("a late answer", answer).await,
            answered => answered.map(|_| ()),
        };
        match answer {
            Err(DirectoryError::Uncertain(said)) => assert_reason(attack, &said),
            other => panic!("{attack:?}: {other:?}"),
        }
    }
}

/// The agent's process, and all that it has ever needed of memory.
#[tokio::test]
async fn an_agent_lives_through_all_of_it_in_little_memory_and_resets_where_it_can() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut fakes = Vec::new();
    for attack in ATTACKS {
        let hostile = FakeDc::offering(&[]).await;
        hostile.attack(Question::RootDse, attack);
        fakes.push(hostile);
    }
    fakes.push(FakeDc::offering(&[]).await);
    let configured = Fakes::of(&fakes.iter().collect::<Vec<_>>());
    let ldaps = section(&configured.config, &configured.ca_file());

    let user = dc().create_user("lives", Ou::Staff, OLD).await;
    let mut on_the_way = Vec::new();
    for attack in ATTACKS {
        on_the_way.push(OnTheWay::answering(attack).await);
    }
    let mut config = Config { start_tls: true, ..config() };
    config.url = on_the_way.iter().map(|hostile| hostile.url.clone()).chain([dc().ldap_url()]).collect();
    let start_tls = section(&config, &dc().ca_file());

    for (section, account) in [(ldaps, ACCOUNT), (start_tls, user.upn.as_str())] {
        let mut agent = Agent::new(&relay);
        agent.configure(&section);
        let code = portal.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap();
        assert_eq!(agent.enroll(&code).await.status, 0);
        agent.start();
        agent.usable(&portal).await;
        let (tenant, account) = (tenant(), upn(account));
        let reset = portal.portal.reset(&tenant, &account, password(NEW), Options::default(), 2 * PATIENCE);
        let answer = reset.await.unwrap();
        let Answer::Concluded { outcome, .. } = answer else { panic!("{answer:?}: {}", agent.log()) };
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert!(agent.is_running());
        let kib = agent.largest_kib();
        assert!(kib < 96 * 1024, "{kib} KiB");
        assert!(agent.terminate().await.success());
    }
}

fn section(config: &Config, ca_file: &std::path::Path) -> String {
    format!(
        "[directory]\nkind = \"active_directory\"\nurl = {:?}\nstart_tls = {}\nca_file = {ca_file:?}\nbind_user = {:?}\n\
         bind_password_file = {:?}\nconnect_timeout_seconds = 2\noperation_timeout_seconds = 2\n",
        config.url, config.start_tls, config.bind_user, config.bind_password_file
    )
}

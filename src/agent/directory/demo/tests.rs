//! What the directory keeps to.

use futures_util::FutureExt;

use super::user::LOCKOUT_THRESHOLD;
use super::*;
use crate::agent::testing::{Hands, NOW};
use crate::clock::{System, UnixTime};

const JANE: &str = "Jane@corp.example";

fn password(text: &str) -> Password {
    Password::new(text.into()).unwrap()
}

fn in_time() -> Deadline {
    Deadline::new(UnixTime(i64::MAX), System::clock())
}

fn demo() -> Demo {
    Demo::new(System::clock(), System::random()).with_account(JANE, "Old-Passw0rd")
}

#[tokio::test]
async fn a_reset_sets_the_password_and_moves_pwd_last_set() {
    let demo = demo();
    let account = demo.find(&Subject::upn("jane@CORP.example").unwrap()).await.unwrap();
    let guid = Subject::ObjectGuid(demo.object_guid(JANE).unwrap());
    assert_eq!(demo.find(&guid).await.unwrap(), account);
    demo.reset_password(&account, &password("New-Passw0rd"), Options::default(), &in_time()).await.unwrap();
    assert!(demo.password_is(JANE, "New-Passw0rd") && !demo.password_is(JANE, "Old-Passw0rd"));
    assert!(demo.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
    let forced = Options { force_change_at_next_logon: true, ..Options::default() };
    demo.reset_password(&account, &password("Newer-Passw0rd"), forced, &in_time()).await.unwrap();
    assert_eq!(demo.pwd_last_set(&account).await.unwrap(), 0);
}

#[tokio::test]
async fn the_policy_refuses_and_nothing_changes() {
    let demo = demo();
    let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
    for weak in ["Sh0rt-pw!", "onlylowercase", "lower0123456789"] {
        let result = demo.reset_password(&account, &password(weak), Options::default(), &in_time()).await;
        assert!(matches!(result, Err(DirectoryError::Refused { code: Code::PasswordPolicy, .. })), "{weak}");
    }
    assert!(demo.password_is(JANE, "Old-Passw0rd"));
}

#[tokio::test]
async fn time_that_runs_out_just_before_the_write_keeps_it_from_being_written() {
    let demo = demo().with_delays(Duration::from_millis(50), Duration::ZERO);
    let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
    let (clock, password) = (Hands::at(NOW), password("New-Passw0rd"));
    let deadline = Deadline::new(UnixTime(NOW + 1), clock.clone());
    let mut reset = demo.reset_password(&account, &password, Options::default(), &deadline);
    assert!((&mut reset).now_or_never().is_none(), "it did not wait");
    clock.set(NOW + 1);
    assert!(matches!(reset.await, Err(DirectoryError::Expired)));
    assert!(demo.password_is(JANE, "Old-Passw0rd"));
    assert_eq!(demo.pwd_last_set(&account).await.unwrap(), account.pwd_last_set);
}

#[tokio::test]
async fn wrong_passwords_lock_and_a_reset_with_unlock_unlocks() {
    let demo = demo();
    let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
    for _ in 0..LOCKOUT_THRESHOLD {
        assert_eq!(demo.try_password(&account, &password("wrong")).await.unwrap(), PasswordCheck::Wrong);
    }
    let right = password("New-Passw0rd");
    demo.reset_password(&account, &right, Options::default(), &in_time()).await.unwrap();
    assert_eq!(demo.try_password(&account, &right).await.unwrap(), PasswordCheck::Unclear);
    let unlock = Options { unlock: true, ..Options::default() };
    demo.reset_password(&account, &right, unlock, &in_time()).await.unwrap();
    assert_eq!(demo.try_password(&account, &right).await.unwrap(), PasswordCheck::Right);
}

fn code<T: fmt::Debug>(answer: Result<T, DirectoryError>) -> Code {
    match answer {
        Err(DirectoryError::Refused { code, .. } | DirectoryError::LeftAlone { code, .. }) => code,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

#[tokio::test]
async fn a_change_needs_the_current_password_and_wrong_ones_lock() {
    let demo = demo();
    let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
    let change = |current, new| {
        let (current, new) = (password(current), password(new));
        let (demo, account) = (demo.clone(), account.clone());
        async move { demo.change_password(&account, &current, &new, &in_time()).await }
    };
    change("Old-Passw0rd", "New-Passw0rd").await.unwrap();
    assert!(demo.password_is(JANE, "New-Passw0rd"));
    assert!(demo.pwd_last_set(&account).await.unwrap() > account.pwd_last_set);
    // One that was before, and one against the policy.
    assert_eq!(code(change("New-Passw0rd", "Old-Passw0rd").await), Code::PasswordPolicy);
    assert_eq!(code(change("New-Passw0rd", "weak").await), Code::PasswordPolicy);
    for _ in 0..LOCKOUT_THRESHOLD {
        assert_eq!(demo.lockout_time(&account).await.unwrap(), 0);
        assert_eq!(code(change("wrong", "Newer-Passw0rd").await), Code::IncorrectPassword);
    }
    assert_eq!(code(change("New-Passw0rd", "Newer-Passw0rd").await), Code::AccountLocked);
    assert!(demo.lockout_time(&account).await.unwrap() > 0);
    demo.unlock_account(&account, &in_time()).await.unwrap();
    assert_eq!(demo.lockout_time(&account).await.unwrap(), 0);
    change("New-Passw0rd", "Newer-Passw0rd").await.unwrap();
}

#[tokio::test]
async fn a_young_password_can_not_be_changed_unless_it_must_be() {
    let demo = demo().with_minimum_age(Duration::from_secs(24 * 3600));
    let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
    let (old, new) = (password("Old-Passw0rd"), password("New-Passw0rd"));
    assert_eq!(code(demo.change_password(&account, &old, &new, &in_time()).await), Code::PasswordPolicy);
    let forced = Options { force_change_at_next_logon: true, ..Options::default() };
    demo.reset_password(&account, &old, forced, &in_time()).await.unwrap();
    demo.change_password(&account, &old, &new, &in_time()).await.unwrap();
}

#[tokio::test]
async fn a_reset_looks_at_the_history_only_if_asked() {
    let demo = demo();
    let account = demo.find(&Subject::upn(JANE).unwrap()).await.unwrap();
    let (old, history) = (password("Old-Passw0rd"), Options { enforce_history: true, ..Options::default() });
    assert_eq!(code(demo.reset_password(&account, &old, history, &in_time()).await), Code::PasswordPolicy);
    demo.reset_password(&account, &password("New-Passw0rd"), history, &in_time()).await.unwrap();
    assert_eq!(code(demo.reset_password(&account, &old, history, &in_time()).await), Code::PasswordPolicy);
    demo.reset_password(&account, &old, Options::default(), &in_time()).await.unwrap();
}

#[tokio::test]
async fn disabled_and_protected_accounts_are_refused_by_their_own_codes() {
    let demo = demo().with_account("joe@corp.example", "Old-Passw0rd");
    demo.disable(JANE);
    demo.protect("Joe@corp.example");
    let find = |upn| {
        let demo = demo.clone();
        async move { demo.find(&Subject::upn(upn).unwrap()).await.map(drop) }
    };
    assert_eq!(code(find(JANE).await), Code::AccountDisabled);
    assert_eq!(code(find("joe@corp.example").await), Code::ProtectedAccount);
}

#[tokio::test]
async fn a_state_file_outlives_the_directory_and_holds_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("demo.json");
    let toml = format!("accounts = [{JANE:?}]\ninitial_password = \"Old-Passw0rd\"\nstate_file = {file:?}");
    let config: Config = toml::from_str(&toml).unwrap();
    let open = || Demo::configured(&config, System::clock(), System::random()).unwrap();
    let account = open().find(&Subject::upn(JANE).unwrap()).await.unwrap();
    open().reset_password(&account, &password("New-Passw0rd"), Options::default(), &in_time()).await.unwrap();
    assert!(open().password_is(JANE, "New-Passw0rd"));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("Passw0rd"));
    assert!(!format!("{config:?}").contains("Passw0rd"));
}

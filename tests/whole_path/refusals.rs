//! Resets that the directory refuses: a signed answer that says why, an event, and the old password stays.

use super::{NEW, OLD, Stage};
use crate::support::samba::{Ou, dc};

impl Stage {
    /// The reset of `upn` is refused with this code and this event, and may be sent again only so; it is not sent twice.
    async fn refused(&self, upn: &str, password: &str, code: &str, event: u64, only: &str) {
        let said = self.portal.reset(upn, password, &[]).await;
        let headline = format!("refused by the directory: {code} (event {event})\n");
        assert!(said.status == 2 && said.out.starts_with(&headline), "{said:?}");
        let again = format!("a new command may be sent: only {only}");
        assert!(said.out.contains(&again) && said.out.contains("nothing was changed"), "{}", said.out);
        assert!(!said.out.contains(password), "{}", said.out);
        self.agent.event(31003, upn).await;
        assert_eq!(self.agent.event_ids_about(upn), [31001, event, 31003]);
        assert_eq!(self.agent.event(event, upn).await["code"], code);
    }
}

#[tokio::test]
async fn a_password_against_the_policy() {
    let stage = Stage::new().await;
    let user = dc().create_user("weak", Ou::Staff, OLD).await;
    stage.refused(&user.upn, "Ab1!", "password_policy", 33008, "with another password").await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn an_account_outside_the_delegated_unit() {
    let stage = Stage::everywhere(&dc().ldaps_url()).await;
    let user = dc().create_user("outside", Ou::Other, OLD).await;
    stage
        .refused(&user.upn, NEW, "insufficient_rights", 33004, "when the agent's service account has been given")
        .await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn an_unknown_and_a_disabled_account() {
    let stage = Stage::new().await;
    stage.refused("nobody@example.test", NEW, "user_not_found", 33002, "for another name").await;
    let user = dc().create_user("disabled", Ou::Staff, OLD).await;
    dc().disable(&user).await;
    stage.refused(&user.upn, NEW, "account_disabled", 33005, "when the account has been enabled").await;
    dc().enable(&user).await;
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));
}

#[tokio::test]
async fn a_password_that_is_none_is_never_sent() {
    let stage = Stage::new().await;
    for bad in ["", &"x".repeat(257)] {
        let said = stage.portal.reset("jane@example.test", bad, &[]).await;
        assert!(said.status == 1 && said.err.starts_with("writeback-portal: "), "{said:?}");
    }
    let latin1 = b"P\xe4ssw\xf6rd-2026\n";
    let said = stage.portal.run_with(&["reset", "contoso", "jane@example.test"], latin1).await;
    assert!(said.status == 1 && said.err.contains("not UTF-8"), "{said:?}");
    assert!(!stage.relay.log().contains("command_submitted"));
}

//! Two domain controllers, one of which is killed in the middle of a reset. They are two proxies before one Samba, so
//! what one has written the other knows at once; what is shown is where writes go, and how often.

use super::{NEW, OLD, Stage, only_new_logs_on};
use crate::support::agent::{Agent, samba};
use crate::support::eventually;
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::portal_cli::PortalCli;
use crate::support::relay::Relay;
use crate::support::samba::{Ou, dc};

/// What the agent's log says when a write goes to another controller.
const ELSEWHERE: &str = "the command goes to another domain controller";

async fn stage(urls: &[String; 2]) -> Stage {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    let one = samba(&urls[0]);
    agent.configure(&one.replace(&format!("url = {:?}", urls[0]), &format!("url = {urls:?}")));
    Stage::enrolled(relay, portal, agent).await
}

#[tokio::test]
async fn a_controller_that_says_not_now_to_the_logon_or_to_the_write_is_left_for_the_next_and_the_reset_is_done_once() {
    let (dc1, dc2) = (LdapProxy::start().await, LdapProxy::start().await);
    dc1.answer(Request::Bind, 51, "00002024: busy");
    let stage = stage(&[dc1.url(), dc2.url()]).await;
    let warm = dc().create_user("warm", Ou::Staff, OLD).await;
    let said = stage.portal.reset(&warm.upn, NEW, &[]).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!((dc1.asked(Request::Modify), dc2.asked(Request::Modify)), (0, 1));
    // Now the other one is going down, and the first is well.
    dc1.pass(Request::Bind);
    dc2.answer(Request::Modify, 52, "000020E1: going down");
    let user = dc().create_user("notnow", Ou::Staff, OLD).await;
    let said = stage.portal.reset(&user.upn, NEW, &[]).await;
    assert!(said.out.starts_with("done: password_reset (event 31002)\n"), "{said:?}\n{}", stage.agent.log());
    assert_eq!((dc1.asked(Request::Modify), dc2.asked(Request::Modify)), (1, 2));
    only_new_logs_on(&user.upn).await;
    assert_eq!(stage.agent.event_ids_about(&user.upn), [31001, 31002]);
    assert!(stage.agent.log().contains(ELSEWHERE), "{}", stage.agent.log());
}

#[tokio::test]
async fn a_controller_that_is_killed_before_the_write_is_left_for_the_next_and_the_reset_is_done_once() {
    let (dc1, dc2) = (LdapProxy::start().await, LdapProxy::start().await);
    let stage = stage(&[dc1.url(), dc2.url()]).await;
    let warm = dc().create_user("warm", Ou::Staff, OLD).await;
    assert_eq!(stage.portal.reset(&warm.upn, NEW, &[]).await.status, 0);
    let asked = dc1.asked(Request::Search);
    assert_eq!(stage.portal.reset(&warm.upn, NEW, &[]).await.status, 0);
    let questions = dc1.asked(Request::Search) - asked;
    let user = dc().create_user("failover", Ou::Staff, OLD).await;
    // An account is looked for by its name, looked at, and looked at once more in the same way. It is found there; then the
    // controller dies, before the write.
    dc1.cut_after(questions.div_ceil(2), Request::Search);
    let said = stage.portal.reset(&user.upn, NEW, &[]).await;
    assert!(said.out.starts_with("done: password_reset (event 31002)\n"), "{said:?}\n{}", stage.agent.log());
    only_new_logs_on(&user.upn).await;
    assert_eq!(stage.agent.event_ids_about(&user.upn), [31001, 31002]);
    let to = format!("\"to\":\"{}\"", dc2.name());
    let log = stage.agent.log();
    assert!(log.lines().any(|line| line.contains(ELSEWHERE) && line.contains(&to)), "{log}");
}

#[tokio::test]
async fn a_controller_that_is_killed_at_the_write_is_asked_when_it_is_back_and_no_other_gets_the_write() {
    let (dc1, dc2) = (LdapProxy::start().await, LdapProxy::start().await);
    let stage = stage(&[dc1.url(), dc2.url()]).await;
    let warm = dc().create_user("warm", Ou::Staff, OLD).await;
    assert_eq!(stage.portal.reset(&warm.upn, NEW, &[]).await.status, 0);
    let user = dc().create_user("killed", Ou::Staff, OLD).await;
    // The write arrives, and its answer does not; nor can it be asked.
    dc1.cut(Request::RootDse, When::Before);
    dc1.cut(Request::Modify, When::After);
    let reset = stage.portal.start_reset(&user.upn, NEW, &[]);
    // To try the password would count as a wrong one until then.
    eventually("the write has arrived", || std::future::ready(dc1.asked(Request::Modify) == 2)).await;
    dc1.all_closed().await;
    assert_eq!(dc().bind(&user.upn, NEW).await, Ok(()));
    let written = dc().attribute(&user, "pwdLastSet").await;
    dc1.pass(Request::RootDse);
    let said = reset.said().await;
    assert!(said.out.starts_with("done: password_reset (event 31002)\n"), "{said:?}\n{}", stage.agent.log());
    assert_eq!(stage.agent.event_ids_about(&user.upn), [31001, 31002]);
    assert_eq!(dc().attribute(&user, "pwdLastSet").await, written, "it was written once");
    assert!(!stage.agent.log().contains(ELSEWHERE), "the other one was left alone");
    only_new_logs_on(&user.upn).await;
}

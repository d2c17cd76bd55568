//! What a node logs is changed while it runs.

use writeback_relay::relay::admin::client::AdminError;

use crate::support::relay::Relay;

#[tokio::test]
async fn the_log_level_is_changed_while_the_node_runs_and_what_would_log_secrets_is_refused() {
    let relay = Relay::start().await;
    let admin = relay.admin();
    assert_eq!(admin.log_level().await.unwrap().level, "debug");
    let lines = |text: &str| relay.log().lines().filter(|line| line.contains(text)).count();
    // A portal that the relay does not know: that is logged as information.
    let ask = || async {
        let portal = relay.portal("portal-1").await;
        assert!(portal.portal.agents(&"fabrikam".parse().unwrap()).await.is_err());
    };
    ask().await;
    assert_eq!(lines("a request was refused"), 1);
    assert!(relay.operator(&["log-level", "error"]));
    assert_eq!(admin.log_level().await.unwrap().level, "error");
    ask().await;
    assert_eq!(lines("a request was refused"), 1);
    assert!(relay.operator(&["log-level", "warn,writeback_relay=info,audit=info"]));
    ask().await;
    assert_eq!(lines("a request was refused"), 2);
    assert_eq!(lines("log_level_set"), 1, "who changed it is in the audit trail, if that is logged");
    for (bad, told) in [("trace", "secrets"), ("loud", "expected"), ("", "nothing"), ("info,hyper=trace", "secrets")] {
        let refused = admin.set_log_level(bad.to_owned()).await.unwrap_err();
        assert!(matches!(&refused, AdminError::Refused(problem) if problem.detail.contains(told)), "{bad}: {refused}");
    }
    assert_eq!(admin.log_level().await.unwrap().level.matches("info").count(), 2);
}

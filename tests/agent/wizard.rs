//! Wrong answers at the terminal that need no directory: each is one sentence, and the question again.

use crate::support::agent::Agent;
use crate::support::pty::Pty;
use crate::support::relay::{Relay, tenant};

const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");

#[tokio::test]
async fn each_wrong_code_and_proxy_is_one_sentence_and_the_question_again() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let code = portal.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap();
    let agent = Agent::new(&relay);
    let home = agent.home();
    std::fs::remove_file(home.join("agent.toml")).unwrap();
    relay.terminate().await;

    let flipped = code.replace("wb1.", "wb1.A");
    let mut terminal = Pty::start(AGENT, &["--home", home.to_str().unwrap(), "setup"]);
    for wrong in ["jane@corp.example", "wb1.", "wb2.abcd", &code[..code.len() - 5], &flipped] {
        terminal.answer("Enrolment code", wrong).await;
        terminal.shows("   ! ").await;
    }
    terminal.answer("Enrolment code", &format!("  {} ", *code)).await;
    // The relay is down; and then, what is no proxy.
    terminal.shows("   ! ").await;
    for wrong in ["socks5://proxy:1080", "proxy", "http://proxy:port", "http://", "http://127.0.0.1:1"] {
        terminal.answer("An HTTP proxy on the way", wrong).await;
        terminal.shows("   ! ").await;
    }
    relay.start_again().await;
    terminal.answer("An HTTP proxy on the way", "none").await;
    terminal.answer("CA that signed its certificate", "/nowhere/ca.pem").await;
    terminal.shows("   ! ").await;
    terminal.answer("CA that signed its certificate", relay.ca_file().to_str().unwrap()).await;
    terminal.shows("It is reached.").await;
    let screen = terminal.screen();
    for sentence in screen.lines().filter(|line| line.starts_with("   ! ")) {
        assert!(sentence.len() > 30 && !sentence.contains("Error"), "{sentence}");
    }
    assert!(!screen.contains(&*code));
}

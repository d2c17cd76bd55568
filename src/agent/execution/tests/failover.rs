//! A controller that is gone before a write was sent: another one gets it, and nothing is executed twice.

use super::*;

fn gone() -> DirectoryError {
    DirectoryError::Unavailable("dc1: gone".into())
}

#[tokio::test]
async fn a_write_that_was_not_sent_goes_to_the_next_controller_and_is_followed_up_there() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().controllers(&["dc1", "dc2"]).resets([Err(gone()), Ok(())]));
    let (executor, _failed) = agent.executor(directory.clone());
    assert_eq!(outcome(&agent, &executor, &agent.command(JANE)).await.status, Status::Succeeded);
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("reset ")).count(), 2);
}

#[tokio::test]
async fn each_controller_is_tried_once_and_then_the_command_has_failed_and_may_be_sent_again() {
    let agent = Enrolled::new().await;
    let directory = Scripted::default().controllers(&["dc1", "dc2", "dc1"]).resets([Err(gone()), Err(gone())]);
    let (executor, _failed) = agent.executor(Arc::new(directory));
    let answer = outcome(&agent, &executor, &agent.command(JANE)).await;
    assert_eq!((answer.code.as_data(), answer.retry_safe), ("directory_unavailable", true));
}

#[tokio::test]
async fn a_write_that_may_have_been_done_goes_nowhere_else() {
    let agent = Enrolled::new().await;
    let directory = Scripted::default()
        .controllers(&["dc1", "dc2"])
        .resets([Err(uncertain())])
        .pwd_last_set([Ok(8)])
        .checks([Ok(PasswordCheck::Right)]);
    let directory = Arc::new(directory);
    let (executor, _failed) = agent.executor(directory.clone());
    assert_eq!(outcome(&agent, &executor, &agent.command(JANE)).await.status, Status::Succeeded);
    assert_eq!(directory.calls().iter().filter(|call| call.starts_with("find ")).count(), 1);
}

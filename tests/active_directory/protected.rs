//! Accounts that are left alone.

use writeback_relay::agent::directory::Directory;
use writeback_relay::protocol::command::Subject;
use writeback_relay::protocol::outcome::Code;

use super::{OLD, directory, refused, upn};
use crate::support::samba::{Ou, dc};

#[tokio::test]
async fn an_account_of_a_protected_group_is_refused_by_a_code_of_its_own() {
    let user = dc().create_user("admin", Ou::Staff, OLD).await;
    directory().find(&upn(&user.upn)).await.unwrap();
    dc().replace(&user, "adminCount", "1").await;
    for subject in [upn(&user.upn), Subject::ObjectGuid(user.guid)] {
        let (code, detail) = refused(directory().find(&subject).await);
        assert_eq!((code, code.event().id()), (Code::ProtectedAccount, 33004));
        assert!(detail.contains("adminCount"), "{detail}");
    }
    dc().replace(&user, "adminCount", "0").await;
    directory().find(&upn(&user.upn)).await.unwrap();
}

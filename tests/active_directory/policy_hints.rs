//! A reset that looks at the history, by a control that Samba does not have: so against a domain controller that is none.

use writeback_relay::agent::directory::active_directory::ActiveDirectory;
use writeback_relay::agent::directory::{Directory, DirectoryError, Written};
use writeback_relay::protocol::command::Options;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::storage::PrivateFile;

use super::{NEW, config, in_time, password, refused, upn};
use crate::support::fake_dc::{ACCOUNT, FakeDc};

const CURRENT: &str = "1.2.840.113556.1.4.2239";
const DEPRECATED: &str = "1.2.840.113556.1.4.2066";
const SD_FLAGS: &str = "1.2.840.113556.1.4.801";

const HISTORY: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: true };

async fn reset(dc: &FakeDc, options: Options) -> Result<Written, DirectoryError> {
    let dir = tempfile::tempdir().unwrap();
    let file = PrivateFile::new(dir.path().join("password"));
    file.replace("anything").unwrap();
    // This one needs no Samba, but has the rest of the configuration.
    let mut config = config();
    (config.url, config.ca_file) = (vec![dc.url.clone()], Some(dc.ca_file.clone()));
    config.bind_password_file = file.path().to_owned();
    let directory = ActiveDirectory::new(&config).unwrap();
    let account = directory.find(&upn(ACCOUNT)).await.unwrap();
    directory.reset_password(&account, &password(NEW), options, &in_time()).await
}

/// `controls [0]` of a request with this one, critical, whose value is `SEQUENCE { INTEGER 1 }` (RFC 4511 §4.1.11).
fn control(oid: &str) -> Vec<u8> {
    [
        &[0xa0, 0x25, 0x30, 0x23, 0x04, 0x17],
        oid.as_bytes(),
        &[0x01, 0x01, 0xff, 0x04, 0x05, 0x30, 0x03, 0x02, 0x01, 0x01],
    ]
    .concat()
}

#[tokio::test]
async fn the_current_control_is_sent_byte_for_byte_where_both_are_offered() {
    let dc = FakeDc::offering(&[SD_FLAGS, DEPRECATED, CURRENT]).await;
    reset(&dc, HISTORY).await.unwrap();
    let modify = dc.modifies().pop().unwrap();
    assert!(modify.ends_with(&control(CURRENT)), "{modify:02x?}");
}

#[tokio::test]
async fn the_deprecated_control_is_sent_where_only_that_is_offered() {
    let dc = FakeDc::offering(&[DEPRECATED, SD_FLAGS]).await;
    reset(&dc, HISTORY).await.unwrap();
    let modify = dc.modifies().pop().unwrap();
    assert!(modify.ends_with(&control(DEPRECATED)), "{modify:02x?}");
}

#[tokio::test]
async fn no_control_is_sent_unless_it_is_asked_for() {
    let dc = FakeDc::offering(&[CURRENT]).await;
    reset(&dc, Options::default()).await.unwrap();
    let modify = dc.modifies().pop().unwrap();
    // The request ends with its changes, whose last byte is the quotation mark's second one.
    assert!(modify.ends_with(&[b'"', 0]), "{modify:02x?}");
}

#[tokio::test]
async fn where_neither_is_offered_nothing_is_written_and_both_are_named() {
    let dc = FakeDc::offering(&[SD_FLAGS]).await;
    let (code, detail) = refused(reset(&dc, HISTORY).await);
    assert_eq!(code, Code::HistoryUnavailable);
    assert!(detail.contains(CURRENT) && detail.contains(DEPRECATED) && detail.contains("localhost"), "{detail}");
    assert_eq!(dc.modifies(), [b""; 0]);
}

#[tokio::test]
async fn a_password_from_the_history_is_refused_by_the_policy() {
    let dc = FakeDc::offering(&[CURRENT]).await;
    // As Windows says it.
    dc.answer(53, "0000052D: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0\n\0");
    assert_eq!(refused(reset(&dc, HISTORY).await).0, Code::PasswordPolicy);
}

#[tokio::test]
async fn a_controller_that_offers_it_and_does_not_know_it_after_all_has_written_nothing() {
    let dc = FakeDc::offering(&[CURRENT]).await;
    dc.answer(12, "00002040: LdapErr: DSID-0C0909B2, comment: Error processing control, data 0");
    assert_eq!(refused(reset(&dc, HISTORY).await).0, Code::HistoryUnavailable);
}

//! The guard between a domain controller that does what none does, and the library itself.

use std::collections::HashSet;

use ldap3::{LdapConnAsync, LdapConnSettings, Mod, Scope, SearchEntry, SearchOptions, StdStream};
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::ber::element;
use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// The library, the guard, and the far end of the wire.
struct Guarded {
    ldap: ldap3::Ldap,
    driver: JoinHandle<()>,
    violation: Arc<OnceLock<Violation>>,
    controller: DuplexStream,
}

async fn guarded(limit: Duration) -> Guarded {
    let (server, controller) = duplex(1024 * 1024);
    let (ours, librarys) = UnixStream::pair().unwrap();
    let violation = Arc::new(OnceLock::new());
    tokio::spawn(guard(server, ours, limit, Arc::clone(&violation)));
    let stream = StdStream::Unix(librarys.into_std().unwrap());
    let settings = LdapConnSettings::new().set_std_stream(stream);
    let (driver, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///").await.unwrap();
    let driver = tokio::spawn(async {
        let _ = driver.drive().await;
    });
    Guarded { ldap, driver, violation, controller }
}

/// What is asked, as message 1.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// For two entries.
    Search,
    Modify,
    Bind,
}

impl Guarded {
    /// Asks, and is answered these bytes. Whether an answer comes out; the library does not panic.
    async fn answered(&mut self, asked: Asked, answer: &[u8]) -> bool {
        let mut ldap = self.ldap.clone();
        let request = tokio::spawn(async move {
            match asked {
                Asked::Search => {
                    ldap.with_search_options(SearchOptions::new().sizelimit(2));
                    let found = ldap.search("", Scope::Base, "(a=b)", ["a"]).await;
                    found.map(|found| drop(found.0.into_iter().map(SearchEntry::construct).collect::<Vec<_>>()))
                }
                Asked::Modify => ldap.modify("", vec![Mod::Replace("a", HashSet::from(["b"]))]).await.map(drop),
                Asked::Bind => ldap.simple_bind("a", "b").await.map(drop),
            }
        });
        read(&mut self.controller, LIMIT).await.unwrap().unwrap();
        let _ = self.controller.write_all(answer).await;
        let _ = self.controller.shutdown().await;
        let answer = timeout(LIMIT, request).await.expect("the request ends").expect("the library does not panic");
        answer.is_ok()
    }

    /// Ends both, and says what was wrong.
    async fn violation(self) -> Option<Violation> {
        let Self { ldap, driver, violation, controller } = self;
        drop((ldap, controller));
        timeout(LIMIT, driver).await.expect("the library ends").expect("the library does not panic");
        violation.get().copied()
    }
}

fn message(id: u8, operation: u8, content: &[Vec<u8>]) -> Vec<u8> {
    let operation = element(operation, &content.concat());
    element(0x30, &[vec![2, 1, id], operation].concat())
}

fn text(text: &[u8]) -> Vec<u8> {
    element(0x04, text)
}

fn result(operation: u8, more: &[Vec<u8>]) -> Vec<u8> {
    message(1, operation, &[&[vec![0x0a, 1, 0], text(b""), text(b"")], more].concat())
}

fn entry(attributes: &[(&[u8], &[&[u8]])]) -> Vec<u8> {
    let attribute = |(name, values): &(&[u8], &[&[u8]])| {
        let values: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        element(0x30, &[text(name), element(0x31, &values)].concat())
    };
    let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
    message(1, 0x64, &[text(b"CN=a"), element(0x30, &attributes)])
}

fn reference() -> Vec<u8> {
    message(1, 0x73, &[text(b"ldap://other/DC=b")])
}

fn done() -> Vec<u8> {
    result(0x65, &[])
}

/// What domain controllers do send.
fn good() -> Vec<(Asked, Vec<u8>)> {
    let control = element(0x30, &[text(b"1.2.840.113556.1.4.319"), vec![1, 1, 0], text(&[0x30, 0])].concat());
    let with_controls = {
        let done = element(0x65, &[vec![0x0a, 1, 0], text(b""), text(b"")].concat());
        element(0x30, &[vec![2, 1, 1], done, element(0xa0, &control)].concat())
    };
    let found = entry(&[(b"objectGUID", &[&[0xff; 16]]), (b"cn", &[b"a", "ä".as_bytes()]), (b"empty", &[])]);
    vec![
        (Asked::Search, [found.clone(), reference(), found, done()].concat()),
        (Asked::Search, with_controls),
        (Asked::Search, result(0x65, &[element(0xa3, &text(b"ldap://other/"))])),
        (Asked::Modify, result(0x67, &[])),
        // What a later version of the protocol may add (RFC 4511 §4).
        (Asked::Modify, result(0x67, &[element(0x9f - 0x10, b"new")])),
        (Asked::Bind, result(0x61, &[element(0x87, b"credentials")])),
    ]
}

#[tokio::test]
async fn what_domain_controllers_send_comes_through() {
    for (asked, answer) in good() {
        let mut guarded = guarded(LIMIT).await;
        assert!(guarded.answered(asked, &answer).await, "{asked:?} {answer:02x?}");
        assert_eq!(guarded.violation().await, None);
    }
}

#[tokio::test]
async fn what_no_domain_controller_sends_ends_the_connection_and_says_why() {
    let nested = (0..20_000).fold(Vec::new(), |inner, _| element(0x30, &inner));
    let values: Vec<&[u8]> = vec![b""; 9000];
    let type_ = Violation::Malformed("an element is of another type than expected");
    for (asked, answer, expected) in [
        (Asked::Search, nested, Violation::TooDeep(16)),
        (Asked::Search, b"\x30\x84\x7f\xff\xff\xff".to_vec(), Violation::TooLarge(0x7fff_ffff + 6)),
        (Asked::Search, b"\x30\x80".repeat(50_000), Violation::Malformed("an indefinite length")),
        (Asked::Search, element(0x30, &[0xff; 100]), Violation::Malformed("a tag of several bytes")),
        (Asked::Search, entry(&[(b"a", &values)]), Violation::TooManyElements(8192)),
        (Asked::Search, reference().repeat(1000), Violation::TooManyReferences(256)),
        (Asked::Search, message(7, 0x65, &[]), Violation::Malformed("an element is missing")),
        (Asked::Search, result(0x67, &[]), Violation::NotAsked(1)),
        (Asked::Modify, done(), Violation::NotAsked(1)),
        (Asked::Bind, result(0x67, &[]), Violation::NotAsked(1)),
        (Asked::Modify, message(9, 0x67, &[vec![0x0a, 1, 0], text(b""), text(b"")]), Violation::NotAsked(9)),
        (Asked::Modify, result(0x67, &[]).repeat(2), Violation::NotAsked(1)),
        (Asked::Search, entry(&[(b"\xff", &[])]), Violation::Malformed("a text is not UTF-8")),
        (Asked::Search, message(1, 0x64, &[]), Violation::Malformed("an element is missing")),
        (Asked::Search, message(1, 0x79, &[]), Violation::Malformed("an operation that no request has as its answer")),
        (Asked::Search, result(0x65, &[element(0x83, b"x")]), type_),
        (Asked::Search, message(1, 0x73, &[element(0x24, b"")]), type_),
        (Asked::Bind, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Violation::Malformed("a message is a sequence")),
    ] {
        let mut guarded = guarded(LIMIT).await;
        // One that is answered twice has its answer.
        let twice = answer == result(0x67, &[]).repeat(2);
        assert_eq!(guarded.answered(asked, &answer).await, twice, "{expected:?}");
        let found = guarded.violation().await;
        assert_eq!(found, Some(expected), "{asked:?}");
    }
}

#[tokio::test]
async fn entries_beyond_those_that_were_asked_for_are_left_out_and_bounded_all_the_same() {
    let mut guarded = guarded(LIMIT).await;
    let answer = [entry(&[(b"a", &[b"b"])]).repeat(1000), done()].concat();
    assert!(guarded.answered(Asked::Search, &answer).await);
    assert_eq!(guarded.violation().await, None);
    let mut pending = Pending::default();
    let search = element(0x63, &[text(b""), vec![0x0a, 1, 0], vec![0x0a, 1, 0], vec![2, 1, 2]].concat());
    let search = element(0x30, &[vec![2, 1, 1], search].concat());
    pending.ask(&Message::of_ours(&search).unwrap()).unwrap();
    let one = entry(&[(b"a", &[b"b"])]);
    let mut answers = (0..1_000_001).map(|_| pending.answer(&Message::of_theirs(&one).unwrap(), one.len()));
    assert_eq!([answers.next(), answers.next(), answers.next()], [Some(Ok(true)), Some(Ok(true)), Some(Ok(false))]);
    assert_eq!(answers.last(), Some(Err(Violation::TooManyEntries(1_000_000))));
}

#[tokio::test]
async fn all_answers_to_one_search_are_bounded_in_bytes() {
    let mut pending = Pending::default();
    let search = element(0x63, &[text(b""), vec![0x0a, 1, 0], vec![0x0a, 1, 0], vec![2, 2, 0x7f, 0xff]].concat());
    let search = element(0x30, &[vec![2, 1, 1], search].concat());
    pending.ask(&Message::of_ours(&search).unwrap()).unwrap();
    let large = entry(&[(b"a", &[&[b'x'; 200_000]])]);
    let answers = (0..1000).map(|_| pending.answer(&Message::of_theirs(&large).unwrap(), large.len()));
    let taken = answers.take_while(Result::is_ok).count();
    assert!((41..=42).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_message_that_is_begun_ends_within_its_limit_and_an_idle_connection_stays() {
    let limit = Duration::from_millis(50);
    let mut guarded = guarded(limit).await;
    // Longer than the limit, and nothing has begun.
    assert!(timeout(2 * limit, guarded.controller.read_u8()).await.is_err());
    assert_eq!(guarded.violation.get(), None);
    guarded.controller.write_all(&done()[..10]).await.unwrap();
    let closed = timeout(LIMIT, guarded.controller.read_u8()).await.expect("the connection ends");
    assert!(closed.is_err());
    assert_eq!(guarded.violation().await, Some(Violation::Trickled(limit)));
}

#[tokio::test]
async fn a_controller_that_takes_no_requests_is_given_up() {
    let limit = Duration::from_millis(50);
    let mut guarded = guarded(limit).await;
    let value = vec![b'x'; 200_000];
    let asked = async {
        loop {
            let change = Mod::Replace(b"a".as_slice(), HashSet::from([value.as_slice()]));
            // Nobody answers; the next one is written all the same.
            if let Ok(Err(_)) = timeout(Duration::from_millis(1), guarded.ldap.modify("", vec![change])).await {
                return;
            }
        }
    };
    timeout(LIMIT, asked).await.expect("it is given up");
    assert_eq!(guarded.violation().await, Some(Violation::Stuck(limit)));
}

#[tokio::test]
async fn a_notice_of_disconnection_ends_the_connection_and_is_no_violation() {
    // As RFC 4511 has it, and as Active Directory writes it.
    let name = element(0x8a, b"1.3.6.1.4.1.1466.20036");
    let notice = [vec![0x0a, 1, 52], text(b""), text(b"going down")];
    let proper = message(0, 0x78, &[&notice[..], std::slice::from_ref(&name)].concat());
    let windows = element(0x30, &[vec![2, 1, 0], element(0x78, &notice.concat()), name].concat());
    for notice in [proper, windows] {
        let mut guarded = guarded(LIMIT).await;
        assert!(!guarded.answered(Asked::Modify, &notice).await);
        assert_eq!(guarded.violation().await, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Every element may be cut, overwritten, repeated: what the guard lets through, the library can read.
    #[test]
    fn nothing_that_comes_through_makes_the_library_panic(
        which in 0..6usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let (asked, mut answer) = good().swap_remove(which);
        for (at, byte, how) in changes {
            let at = at.index(answer.len());
            match how {
                0 => answer[at] = byte,
                1 => answer[at] ^= 1 << (byte & 7),
                2 => drop(answer.remove(at)),
                _ => answer.insert(at, byte),
            }
            if answer.is_empty() {
                break;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut guarded = guarded(LIMIT).await;
            guarded.answered(asked, &answer).await;
            guarded.violation().await;
        });
    }
}

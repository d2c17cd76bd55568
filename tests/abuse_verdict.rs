//! The abuse program finds each kind of harm that an attack can do, and nothing where all is well.

#[path = "abuse/measured.rs"]
mod measured;
#[path = "abuse/verdict.rs"]
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use self::measured::{Account, Served, Spent, Wish};
use self::verdict::{Before, Recovery, Verdict};

const MIB: u64 = 1024 * 1024;
const SOON: Duration = Duration::from_millis(20);

fn served(wish: Wish) -> Served {
    Served { wish, took: SOON, refused: None }
}

fn before() -> Before {
    Before { normal: Wish::ALL.map(served).to_vec(), resident: 40 * MIB, files: 30 }
}

/// An attack of ten seconds that nobody has noticed.
fn unnoticed() -> Verdict {
    let spent = Spent { connections: 10, turned_away: 1, sent: MIB, received: MIB };
    Verdict {
        name: "an attack".to_owned(),
        accounts: vec![Account { variant: "a variant".to_owned(), spent, told: BTreeMap::new() }],
        attacker_cpu: SOON,
        lasted: Duration::from_secs(10),
        peak: 50 * MIB,
        cpu: SOON,
        logged: 1000,
        stored: 1000,
        served: (0..10).flat_map(|_| Wish::ALL.map(served)).collect(),
        lost: Vec::new(),
        before: before(),
        operator: None,
        recovery: Recovery::After(SOON),
    }
}

#[test]
fn an_attack_that_nobody_has_noticed_did_no_harm() {
    assert_eq!(unnoticed().faults(), Vec::<String>::new());
    assert_eq!(unnoticed().row()[3], "nothing");
    assert!(unnoticed().to_string().contains("held"));
}

/// What an attack has done.
type Done = fn(&mut Verdict);

#[test]
fn each_kind_of_harm_is_found() {
    let harm: [(&str, Done); 12] = [
        ("1 of 10 availability failed", |it| it.served[0].refused = Some("no answer".to_owned())),
        ("1 of 10 resets failed", |it| it.served[1].refused = Some("no answer".to_owned())),
        ("1 of 10 new sessions failed", |it| it.served[2].refused = Some("no answer".to_owned())),
        ("new sessions took 2001 ms", |it| it.served[2].took = Duration::from_millis(2001)),
        ("1 open sessions were lost", |it| it.lost.push("closed".to_owned())),
        ("the operator could not revoke", |it| it.operator = Some("no answer".to_owned())),
        ("not as before after 10 s: resets", |it| it.recovery = Recovery::Not(vec!["resets: no answer".to_owned()])),
        ("the node was gone", |it| it.recovery = Recovery::Ended("signal: 9".to_owned())),
        ("400 MiB resident", |it| it.peak = 400 * MIB),
        ("6 MiB on disk, of 1024 KiB", |it| it.stored = 6 * MIB),
        ("KiB of log a second", |it| it.logged = 2 * MIB),
        ("nobody was served", |it| it.served.retain(|served| served.wish != Wish::Reset)),
    ];
    for (fault, done) in harm {
        let mut verdict = unnoticed();
        done(&mut verdict);
        let found = verdict.faults();
        assert!(found.len() == 1 && found[0].contains(fault), "{fault}: {found:?}");
        assert!(verdict.to_string().contains("DID HARM"), "{verdict}");
    }
}

#[test]
fn one_of_a_hundred_who_come_anew_may_fail_and_nobody_of_those_who_were_there() {
    let mut verdict = unnoticed();
    verdict.served = (0..100).flat_map(|_| Wish::ALL.map(served)).collect();
    verdict.served[0].refused = Some("no answer".to_owned());
    verdict.served[2].took = Duration::from_secs(3);
    assert_eq!(verdict.faults(), Vec::<String>::new());
    verdict.served[4].refused = Some("no answer".to_owned());
    assert_eq!(verdict.faults(), ["1 of 100 resets failed"]);
}

#[test]
fn a_node_is_as_before_when_everybody_is_served_as_quickly_and_it_has_given_back_what_it_took() {
    let before = before();
    let now = Wish::ALL.map(served);
    assert_eq!(before.left(&now, 60 * MIB, 32), Vec::<String>::new());
    let mut slow = now.clone();
    slow[1].took = Duration::from_millis(600);
    let mut refused = now.clone();
    refused[2].refused = Some("no answer".to_owned());
    for (left, expected) in [
        (before.left(&slow, 60 * MIB, 32), "resets take 600 ms"),
        (before.left(&refused, 60 * MIB, 32), "new sessions: no answer"),
        (before.left(&now, 200 * MIB, 32), "200 MiB resident, 40 before"),
        (before.left(&now, 60 * MIB, 300), "300 files open, 30 before"),
    ] {
        assert_eq!(left, [expected]);
    }
}

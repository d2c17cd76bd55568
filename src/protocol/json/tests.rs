use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    One,
    Two,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Flags {
    on: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flattened {
    at: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Object {
    id: String,
    #[serde(default)]
    flags: Flags,
    name: Option<Name>,
    count: Option<u64>,
    share: Option<f64>,
    list: Option<Vec<Flags>>,
    map: Option<BTreeMap<String, u8>>,
    #[serde(flatten)]
    flattened: Option<Flattened>,
}

fn error<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
    read::<T>(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_object_is_an_object_at_every_level_and_nothing_else() {
    let good = r#"{"id":"a","flags":{"on":true},"name":"two","count":1,"share":0.5,"list":[{}],"map":{"a":1},"at":7}"#;
    let object = read::<Object>(good.as_bytes()).unwrap();
    assert_eq!(
        (object.flags, object.name, object.flattened),
        (Flags { on: true }, Some(Name::Two), Some(Flattened { at: 7 }))
    );
    for bad in [
        r#"["a",{"on":true}]"#,
        r#"{"id":"a","flags":[true]}"#,
        r#"{"id":"a","flags":[]}"#,
        r#"{"id":"a","flags":null}"#,
        r#"{"id":"a","flags":true}"#,
        r#"{"id":"a","list":[[true]]}"#,
        r#"{"id":"a","list":{}}"#,
        r#"{"id":"a","map":[["a",1]]}"#,
        r#"{"id":"a","name":{"two":null}}"#,
        r#"{"id":"a","name":["two"]}"#,
        r#"{"id":"a","name":1}"#,
        r#"{"id":["a"]}"#,
        r#""a""#,
        "null",
        "",
    ] {
        assert!(read::<Object>(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_name_stands_once_in_every_object_listed_or_not() {
    for (bad, place) in [
        (r#"{"id":"a","id":"a"}"#, "id: "),
        (r#"{"id":"a","\u0069d":"a"}"#, "id: "),
        (r#"{"id":"a","flags":{"on":true,"on":true}}"#, "flags.on: "),
        (r#"{"id":"a","map":{"a":1,"a":2}}"#, "map.a: "),
        (r#"{"id":"a","x":1,"x":1}"#, "x: "),
        (r#"{"id":"a","x":[{"y":{"z":1,"z":2}}]}"#, ""),
        (r#"{"id":"a","at":1,"at":1}"#, "at: "),
    ] {
        let error = error::<Object>(bad);
        assert!(error.ends_with("a name stands twice in one object") && error.starts_with(place), "{bad}: {error}");
    }
    assert!(read::<Object>(br#"{"id":"a","x":{"id":1},"y":[{"id":1},{"id":1}]}"#).is_ok(), "in different objects");
}

#[test]
fn null_is_not_absent() {
    for listed in ["flags", "name", "count", "share", "list", "map"] {
        let json = format!(r#"{{"id":"a","{listed}":null}}"#);
        let error = error::<Object>(&json);
        assert!(error.starts_with(listed) && error.ends_with("is expected"), "{json}: {error}");
    }
    assert!(read::<Object>(br#"{"id":"a","at":null}"#).is_ok_and(|o| o.flattened.is_none()), "of no form: not taken");
    assert!(read::<Object>(br#"{"id":"a","x":null,"y":[null]}"#).is_ok(), "what nobody lists may be anything");
    #[derive(Debug, Deserialize)]
    struct Present {
        crit: Option<IgnoredAny>,
    }
    assert!(read::<Present>(br#"{"crit":null}"#).unwrap().crit.is_some(), "it is there");
    assert!(read::<Present>(b"{}").unwrap().crit.is_none());
}

#[test]
fn numbers_are_integers_that_every_library_reads_alike() {
    let count = |number: &str| read::<Object>(format!(r#"{{"id":"a","count":{number}}}"#).as_bytes());
    assert_eq!(count("9007199254740991").unwrap().count, Some(MAX_INTEGER));
    for bad in [
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "-0",
        "1.0",
        "1e0",
        "1E3",
        "01",
        "+1",
        "0x1",
        "1.",
        ".5",
        "NaN",
        "Infinity",
        "1e400",
        "\"1\"",
        "true",
    ] {
        assert!(count(bad).is_err(), "{bad}");
    }
    let at = |number: &str| read::<Object>(format!(r#"{{"id":"a","x":{number},"at":{number}}}"#).as_bytes());
    assert!(at("-9007199254740991").is_ok());
    for bad in ["-9007199254740992", "-9223372036854775808", "9223372036854775807", "1e400"] {
        assert!(at(bad).is_err(), "{bad}");
    }
    assert!(read::<Object>(br#"{"id":"a","share":1.5e2,"x":-0.0}"#).is_ok());
}

#[test]
fn depth_is_bounded_where_nobody_lists_a_member_too() {
    let nested = |depth: usize| format!(r#"{{"id":"a","x":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let most = usize::from(MAX_DEPTH) - 1;
    assert!(read::<Object>(nested(most).as_bytes()).is_ok());
    let error = error::<Object>(&nested(most + 1));
    assert!(error.contains("16 deep"), "{error}");
    assert!(read::<Object>(nested(100_000).as_bytes()).is_err());
}

#[test]
fn text_is_text_and_nothing_stands_behind_it() {
    for bad in [
        &b"{\"id\":\"\xff\"}"[..],
        b"{\"id\":\"a\",\"x\":\"\xff\"}",
        b"{\"id\":\"a\",\"\xff\":1}",
        b"{\"id\":\"\xed\xa0\x80\"}",
        b"\xef\xbb\xbf{\"id\":\"a\"}",
        br#"{"id":"\ud800"}"#,
        br#"{"id":"\udc00\ud800"}"#,
        br#"{"id":"a","x":"\ud800"}"#,
        br#"{"id":"a","\ud800":1}"#,
        br#"{"id":"a","x":"\q"}"#,
        b"{\"id\":\"a\nb\"}",
        br#"{"id":"a"} {"id":"a"}"#,
        br#"{"id":"a"}]"#,
        br#"{"id":"a",}"#,
        br#"{'id':'a'}"#,
        b"{\"id\":\"a\"}\0",
        br#"{"id":"a"} // text"#,
    ] {
        assert!(read::<Object>(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
    let spaced = b" \t\r\n{\"id\" : \"a\" , \"x\" : [ ] }   \n";
    assert!(read::<Object>(spaced).is_ok());
}

#[test]
fn an_error_says_where_and_what_and_repeats_no_value() {
    assert_eq!(error::<Object>(r#"{"id":"a","flags":["hunter2"]}"#), "flags: struct Flags is expected");
    assert_eq!(error::<Object>(r#"{"id":"a","name":"hunter2"}"#), "name: `one` or `two` is expected");
    assert_eq!(error::<Object>(r#"{"id":"a","count":"hunter2"}"#), "count: u64 is expected");
    assert_eq!(
        error::<Object>(r#"{"id":"a","count":9007199254740992}"#),
        "count: an integer between -2^53 and 2^53 is expected"
    );
    assert_eq!(error::<Object>("{\n\"id\":hunter2}"), "it is not JSON: look near line 2, character 6");
    assert_eq!(read::<Object>(b"\xff").unwrap_err().to_string(), "it is not UTF-8");
}

#[test]
fn a_file_of_ours_may_have_null_for_what_is_absent_and_is_as_strict_otherwise() {
    let old = br#"{"id":"a","name":null,"count":18446744073709551615,"map":null}"#;
    assert_eq!(read_with_nulls::<Object>(old).unwrap().count, Some(u64::MAX));
    for bad in [r#"["a"]"#, r#"{"id":"a","id":"a"}"#, r#"{"id":"a","flags":[true]}"#, r#"{"id":null}"#] {
        assert!(read_with_nulls::<Object>(bad.as_bytes()).is_err(), "{bad}");
    }
}

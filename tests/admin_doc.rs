//! `docs/admin-api.md` has every call of the operator's listener, and no other.

use std::collections::BTreeSet;

const DOC: &str = include_str!("../docs/admin-api.md");
const ROUTER: &str = include_str!("../src/relay/admin/mod.rs");

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

/// `GET /admin/v1/tenants`, for each method of each route.
fn routed() -> BTreeSet<String> {
    let routes = ROUTER.split(".route(\"").skip(1).map(|route| route.split_once('"').unwrap());
    let mut found = BTreeSet::new();
    for (path, behind) in routes {
        let handlers = behind.split("\n").next().unwrap();
        let prefix = if ["/livez", "/readyz", "/metrics"].contains(&path) { "" } else { "/admin/v1" };
        for method in METHODS.iter().filter(|method| handlers.contains(&format!("{method}("))) {
            found.insert(format!("{} {prefix}{path}", method.to_uppercase()));
        }
    }
    found
}

#[test]
fn every_call_of_the_operator_is_listed_and_no_other() {
    let rows = DOC.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split_once('`'));
    let written: BTreeSet<String> = rows.map(|(call, _)| call.to_owned()).collect();
    assert!(routed().len() > 15, "the routes were not found: {:?}", routed());
    assert_eq!(written, routed());
}

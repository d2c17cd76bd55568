//! What the service account may do with the users of a unit, by what the domain controller says of a sample of them.

use std::collections::HashSet;

use ldap3::{Scope, SearchEntry};

use super::super::answer::diagnostic;
use super::super::class::{Class, Classes};
use super::super::connection::{RequestError, Search};
use super::super::delegation::{Reach, read_dacl};
use super::super::entry::{bytes, text};
use super::super::right::Right;
use super::super::security_descriptor::{SecurityDescriptor, Verdict};
use super::Viewpoint;
use super::cause::{Above, Cause};
use crate::agent::counted;
use crate::agent::directory::{Check, Finding, Mending};
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::Untrusted;

/// As many users are looked at, spread over the units below: an access list has some 3 KiB.
const SAMPLE: usize = 60;
/// At least as many of each unit.
const AT_LEAST: usize = 5;
/// As many units are gone into: each costs a question.
const UNITS: i32 = 40;
/// As many accounts of administrators are counted.
const PROTECTED_SAMPLE: i32 = 20;
/// As many are named.
const NAMED: usize = 3;

/// The LDAP results `success` and `sizeLimitExceeded`.
const COMPLETE: [u32; 2] = [0, 4];

/// A user that was looked at.
struct User {
    dn: String,
    class: Class,
    /// Whether what a reset has to know was shown.
    readable: bool,
    /// In lower case: what the domain controller says may be written.
    writable: HashSet<String>,
    descriptor: Option<SecurityDescriptor>,
    /// Disabled, or an administrator's: it is not reset anyway.
    left_alone: bool,
}

const OF_A_USER: &[&str] = &[
    "objectClass",
    "pwdLastSet",
    "userAccountControl",
    "adminCount",
    "allowedAttributesEffective",
    "nTSecurityDescriptor",
];

/// `ADS_UF_ACCOUNTDISABLE` in `userAccountControl`.
const DISABLED: i32 = 0x2;

impl User {
    fn new(entry: SearchEntry, classes: &Classes) -> Self {
        let writable = entry.attrs.get("allowedAttributesEffective").into_iter().flatten();
        let writable = writable.map(|name| name.to_ascii_lowercase()).collect();
        let descriptor = bytes(&entry, "nTSecurityDescriptor").first().map(|value| SecurityDescriptor::read(value));
        let flags = text(&entry, "userAccountControl").and_then(|flags| flags.parse::<i32>().ok());
        let readable = flags.is_some() && text(&entry, "pwdLastSet").is_some();
        let left_alone = flags.is_some_and(|flags| flags & DISABLED != 0)
            || text(&entry, "adminCount").is_some_and(|count| count != "0");
        let class = classes.of(&entry);
        Self { dn: entry.dn, class, readable, writable, descriptor: descriptor.and_then(Result::ok), left_alone }
    }

    /// What can be read and written is the domain controller's word; it has none for extended rights.
    fn grants(&self, viewpoint: &Viewpoint<'_>, right: Right) -> bool {
        match right {
            Right::ReadAccount => self.readable,
            Right::WriteLockoutTime => self.writable.contains("lockouttime"),
            Right::WritePwdLastSet => self.writable.contains("pwdlastset"),
            Right::ResetPassword | Right::ChangePassword | Right::UnexpirePassword => {
                let descriptor = self.descriptor.as_ref();
                descriptor.is_some_and(|own| right.verdict(own, &viewpoint.token, &self.class) == Verdict::Granted)
            }
        }
    }
}

/// The unit itself, each right on its users, and the accounts there that are left alone.
pub(super) async fn of_unit(viewpoint: &Viewpoint<'_>, base_dn: &str) -> Result<Vec<Finding>, RequestError> {
    let connection = viewpoint.connection;
    let below = Search {
        base: base_dn.to_owned(),
        scope: Scope::Subtree,
        // Of the containers, only the one that new users go to by default; others have hundreds below them.
        filter: "(|(objectClass=organizationalUnit)(&(objectClass=container)(cn=Users)))".to_owned(),
        attributes: &["ou"],
    };
    let (entries, result) = connection.sample(UNITS, &below).await?;
    if !COMPLETE.contains(&result.rc) {
        let detail = format!("it is not there, or can't be read ({})", diagnostic(&result));
        return Ok(vec![Finding::failed(Check::BaseDn, base_dn, detail).mended_by(Remedy::BaseDn)]);
    }
    let mut units: Vec<String> = entries.into_iter().map(|entry| entry.dn).collect();
    // Itself, unless it has just been named; it need not be an organizational unit.
    if !units.iter().any(|unit| unit.eq_ignore_ascii_case(base_dn)) {
        units.push(base_dn.to_owned());
    }
    let users = sample(viewpoint, &units).await?;
    let found = match users.len() {
        0 => Finding::warning(Check::BaseDn, base_dn, "there is no user below it, or the service account sees none"),
        count => Finding::ok(Check::BaseDn, base_dn, format!("{} looked at", below_it(count))),
    };
    let mut findings = vec![found];
    let mut above = Above::default();
    for right in Right::ON_USERS {
        findings.push(match users.as_slice() {
            [] => of_nobody(viewpoint, right, base_dn).await,
            users => of_users(viewpoint, right, base_dn, users, &mut above).await,
        });
    }
    let protected = people(base_dn, Scope::Subtree, "(&(adminCount=*)(!(adminCount=0)))", &["sAMAccountName"]);
    let (protected, _) = connection.sample(PROTECTED_SAMPLE, &protected).await?;
    if !protected.is_empty() {
        let shown = protected.iter().filter_map(|entry| text(entry, "sAMAccountName"));
        let detail = format!("administrators' accounts (adminCount is set), which are never reset: {}", named(shown));
        findings.push(Finding::ok(Check::ProtectedAccounts, base_dn, detail));
    }
    Ok(findings)
}

/// Some users of each unit, without those that are left alone anyway.
async fn sample(viewpoint: &Viewpoint<'_>, units: &[String]) -> Result<Vec<User>, RequestError> {
    let each = (SAMPLE / units.len().max(1)).max(AT_LEAST);
    let mut users = Vec::new();
    for unit in units {
        // What may not be read can't be filtered by; so those that are left alone are asked for, too.
        let limit = i32::try_from(2 * each).unwrap_or(i32::MAX);
        let search = people(unit, Scope::OneLevel, "", OF_A_USER);
        let (entries, _) = viewpoint.connection.sample(limit, &search).await?;
        users.extend(
            entries
                .into_iter()
                .map(|entry| User::new(entry, &viewpoint.classes))
                .filter(|user| !user.left_alone)
                .take(each),
        );
    }
    Ok(users)
}

/// Accounts of people.
fn people(base: &str, scope: Scope, more: &str, attributes: &'static [&'static str]) -> Search {
    let filter = format!("(&(objectCategory=person)(objectClass=user){more})");
    Search { base: base.to_owned(), scope, filter, attributes }
}

fn below_it(count: usize) -> String {
    format!("{} below it {}", counted(count, "user"), if count == 1 { "was" } else { "were" })
}

async fn of_users(
    viewpoint: &Viewpoint<'_>,
    right: Right,
    base_dn: &str,
    users: &[User],
    above: &mut Above,
) -> Finding {
    let lacking: Vec<&User> = users.iter().filter(|user| !user.grants(viewpoint, right)).collect();
    let (check, all) = (right.check(), users.len());
    if lacking.is_empty() {
        let granted = match all {
            1 => "granted on the one user that was looked at".to_owned(),
            _ => format!("granted on all {all} users that were looked at"),
        };
        return Finding::ok(check, base_dn, granted);
    }
    let mut causes = Vec::new();
    for user in &lacking {
        let cause = above.cause(viewpoint, right, base_dn, &user.dn, &user.class, user.descriptor.as_ref()).await;
        causes.push((cause, &user.class));
    }
    // One user may have a reason of his own. What the unit lacks is told first.
    let told = causes.iter().find(|(cause, _)| *cause == Cause::NotGranted).or(causes.first());
    let cause = told.map_or(Cause::NotGranted, |(cause, _)| cause.clone());
    let mut classes: Vec<Class> = Vec::new();
    for (_, class) in causes.iter().filter(|(other, _)| *other == cause) {
        if !classes.contains(class) {
            classes.push((*class).clone());
        }
    }
    let (why, Mending { remedy, how }) = cause.explain(viewpoint, right, base_dn, &classes).await;
    let title = check.title();
    if lacking.len() == all {
        let were = if all == 1 { "was" } else { "were" };
        let detail = format!("{title} is missing on the users below {base_dn} ({all} {were} looked at): {why}");
        return Finding::failed(check, base_dn, detail).mended_with(remedy, how);
    }
    let who = named(lacking.iter().map(|user| user.dn.as_str()));
    let detail = format!("{title} is missing on {} of {all} users below {base_dn}: {who}: {why}", lacking.len());
    Finding::warning(check, base_dn, detail).mended_with(remedy, how)
}

/// Without a user to look at: what a new one would inherit.
async fn of_nobody(viewpoint: &Viewpoint<'_>, right: Right, base_dn: &str) -> Finding {
    let Viewpoint { connection, token, trustee, tool, .. } = viewpoint;
    let (check, class) = (right.check(), Class::user());
    let unit = read_dacl(connection, base_dn).await.ok();
    let given = unit.is_some_and(|unit| right.verdict(&unit.inherited_by(class.id), token, &class) == Verdict::Granted);
    // A new account lets everyone change by itself: the schema's defaultSecurityDescriptor says so.
    if given || right == Right::ChangePassword {
        return Finding::ok(check, base_dn, "a new user below it would get it");
    }
    let detail = format!("{} is missing: a new user below {base_dn} would not get it", check.title());
    let how = tool.grant(right, trustee, base_dn, Reach::Below(&[class]));
    Finding::warning(check, base_dn, detail).mended_with(Remedy::GrantRight, how)
}

fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let shown = names.iter().take(NAMED).map(|name| Untrusted::from(*name).quoted().to_string());
    let shown = shown.collect::<Vec<_>>().join("; ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

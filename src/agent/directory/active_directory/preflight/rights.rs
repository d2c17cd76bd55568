//! What the service account may do with the users of a unit, by what the domain controller says of a sample of them.

use std::collections::HashSet;

use ldap3::{Scope, SearchEntry};

use super::super::answer::diagnostic;
use super::super::connection::{RequestError, Search};
use super::super::delegation::{Reach, read_dacl};
use super::super::entry::{bytes, text};
use super::super::right::{Right, USER};
use super::super::security_descriptor::{SecurityDescriptor, Verdict};
use super::cause::{Above, Cause};
use super::protected::{self, Groups};
use super::{Viewpoint, side_by_side};
use crate::agent::directory::{Check, Finding, Mending};
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::Untrusted;

/// As many users are looked at, spread over the units below: an access list has some 3 KiB.
const SAMPLE: usize = 60;
/// At least as many of each unit.
const AT_LEAST: usize = 5;
/// As many units are gone into: each costs a question.
const UNITS: i32 = 40;
/// As many are named.
const NAMED: usize = 3;

/// The LDAP results `success` and `sizeLimitExceeded`.
const COMPLETE: [u32; 2] = [0, 4];

/// A user that was looked at.
struct User {
    dn: String,
    /// Whether what a reset has to know was shown.
    readable: bool,
    /// Whether its groups were shown.
    groups_readable: bool,
    /// In lower case: what the domain controller says may be written.
    writable: HashSet<String>,
    descriptor: Option<SecurityDescriptor>,
    /// Disabled, or an administrator's: it is not reset anyway.
    left_alone: bool,
}

const OF_A_USER: &[&str] =
    &["pwdLastSet", "userAccountControl", "adminCount", "allowedAttributesEffective", "nTSecurityDescriptor"];

/// `ADS_UF_ACCOUNTDISABLE` in `userAccountControl`.
const DISABLED: i32 = 0x2;

impl From<SearchEntry> for User {
    fn from(entry: SearchEntry) -> Self {
        let writable = entry.attrs.get("allowedAttributesEffective").into_iter().flatten();
        let writable = writable.map(|name| name.to_ascii_lowercase()).collect();
        let descriptor = bytes(&entry, "nTSecurityDescriptor").first().map(|value| SecurityDescriptor::read(value));
        let flags = text(&entry, "userAccountControl").and_then(|flags| flags.parse::<i32>().ok());
        let readable = flags.is_some() && text(&entry, "pwdLastSet").is_some();
        let left_alone = flags.is_some_and(|flags| flags & DISABLED != 0)
            || text(&entry, "adminCount").is_some_and(|count| count != "0");
        Self {
            dn: entry.dn,
            readable,
            groups_readable: false,
            writable,
            descriptor: descriptor.and_then(Result::ok),
            left_alone,
        }
    }
}

impl User {
    /// What can be read and written is the domain controller's word; it has none for extended rights.
    fn grants(&self, viewpoint: &Viewpoint<'_>, right: Right) -> bool {
        match right {
            Right::ReadAccount => self.readable,
            Right::ReadTokenGroups => self.groups_readable,
            Right::WriteLockoutTime => self.writable.contains("lockouttime"),
            Right::WritePwdLastSet => self.writable.contains("pwdlastset"),
            Right::ResetPassword | Right::ChangePassword | Right::UnexpirePassword => {
                let descriptor = self.descriptor.as_ref();
                descriptor.is_some_and(|own| own.verdict(&viewpoint.token, right.wanted()) == Verdict::Granted)
            }
        }
    }
}

/// The unit itself, each right on its users, and the accounts there that are left alone.
pub(super) async fn of_unit(
    viewpoint: &Viewpoint<'_>,
    base_dn: &str,
    groups: &Groups,
) -> Result<Vec<Finding>, RequestError> {
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
    let (protected_row, protected) = protected::of_unit(viewpoint, base_dn, groups).await?;
    let mut users = sample(viewpoint, &units).await?;
    users.retain(|user| !protected.contains(&user.dn));
    let shown = users.iter().map(|user| protected::groups_are_shown(viewpoint, &user.dn));
    let shown = side_by_side(shown.collect()).await;
    for (user, groups_readable) in users.iter_mut().zip(shown) {
        user.groups_readable = groups_readable?;
    }
    let found = match users.len() {
        0 => Finding::warning(Check::BaseDn, base_dn, "there is no user below it, or the service account sees none"),
        count => Finding::ok(Check::BaseDn, base_dn, format!("{count} users below it were looked at")),
    };
    let mut findings = vec![found];
    let mut above = Above::default();
    for right in Right::ON_USERS {
        findings.push(match users.as_slice() {
            [] => of_nobody(viewpoint, right, base_dn).await,
            users => of_users(viewpoint, right, base_dn, users, &mut above).await,
        });
    }
    findings.extend(protected_row);
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
        users.extend(entries.into_iter().map(User::from).filter(|user| !user.left_alone).take(each));
    }
    Ok(users)
}

/// Accounts of people.
pub(super) fn people(base: &str, scope: Scope, more: &str, attributes: &'static [&'static str]) -> Search {
    let filter = format!("(&(objectCategory=person)(objectClass=user){more})");
    Search { base: base.to_owned(), scope, filter, attributes }
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
    let Some(first) = lacking.first() else {
        return Finding::ok(check, base_dn, format!("granted on all {all} users that were looked at"));
    };
    let mut cause = above.cause(viewpoint, right, base_dn, &first.dn, first.descriptor.as_ref()).await;
    // One user may have a reason of his own. What the unit lacks is told first.
    for user in lacking.iter().skip(1) {
        if cause == Cause::NotGranted {
            break;
        }
        let other = above.cause(viewpoint, right, base_dn, &user.dn, user.descriptor.as_ref()).await;
        if other == Cause::NotGranted {
            cause = other;
        }
    }
    let (why, Mending { remedy, how }) = cause.explain(viewpoint, right, base_dn).await;
    let title = check.title();
    if lacking.len() == all {
        let detail = format!("{title} is missing on the users below {base_dn} ({all} were looked at): {why}");
        return Finding::failed(check, base_dn, detail).mended_with(remedy, how);
    }
    let who = named(lacking.iter().map(|user| user.dn.as_str()));
    let detail = format!("{title} is missing on {} of {all} users below {base_dn}: {who}: {why}", lacking.len());
    Finding::warning(check, base_dn, detail).mended_with(remedy, how)
}

/// Without a user to look at: what a new one would inherit.
async fn of_nobody(viewpoint: &Viewpoint<'_>, right: Right, base_dn: &str) -> Finding {
    let Viewpoint { connection, token, trustee, tool, .. } = viewpoint;
    let check = right.check();
    let unit = read_dacl(connection, base_dn).await.ok();
    let given = unit.is_some_and(|unit| unit.inherited_by(USER).verdict(token, right.wanted()) == Verdict::Granted);
    // A new account lets everyone change by itself: the schema's defaultSecurityDescriptor says so.
    if given || right == Right::ChangePassword {
        return Finding::ok(check, base_dn, "a new user below it would get it");
    }
    let detail = format!("{} is missing: a new user below {base_dn} would not get it", check.title());
    let how = tool.grant(right, trustee, base_dn, Reach::UsersBelow);
    Finding::warning(check, base_dn, detail).mended_with(Remedy::GrantRight, how)
}

pub(super) fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let shown = names.iter().take(NAMED).map(|name| Untrusted::from(*name).quoted().to_string());
    let shown = shown.collect::<Vec<_>>().join("; ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

//! What the service account may do with the users of a unit, by what the domain controller says of a sample of them.

use ldap3::{Scope, SearchEntry};

use super::super::answer::{REFERRAL, diagnostic};
use super::super::connection::{RequestError, Search};
use super::super::delegation::{Reach, read_dacl};
use super::super::effective::{self, Effective};
use super::super::entry::text;
use super::super::own_password::OwnPassword;
use super::super::right::{Right, USER};
use super::super::security_descriptor::Verdict;
use super::cause::{Above, Cause};
use super::minimum_age::PasswordSettings;
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
    effective: Effective,
    own_password: OwnPassword,
    /// The password settings object whose rules are this user's, if one is shown.
    settings: Option<String>,
    /// Disabled, or an administrator's: it is not reset anyway.
    left_alone: bool,
}

const OF_A_USER: &[&str] = &[
    "pwdLastSet",
    "userAccountControl",
    "adminCount",
    "objectSid",
    "msDS-ResultantPSO",
    effective::ATTRIBUTES[0],
    effective::ATTRIBUTES[1],
];

/// `ADS_UF_ACCOUNTDISABLE` in `userAccountControl`.
const DISABLED: i32 = 0x2;

impl From<SearchEntry> for User {
    fn from(entry: SearchEntry) -> Self {
        let effective = Effective::from(&entry);
        let own_password = effective.descriptor.as_ref().map(|descriptor| OwnPassword::of(&entry, descriptor));
        let own_password = own_password.unwrap_or(OwnPassword::NotShown);
        let settings = text(&entry, "msDS-ResultantPSO").map(str::to_owned);
        let flags = text(&entry, "userAccountControl").and_then(|flags| flags.parse::<i32>().ok());
        let readable = flags.is_some() && text(&entry, "pwdLastSet").is_some();
        let left_alone = flags.is_some_and(|flags| flags & DISABLED != 0)
            || text(&entry, "adminCount").is_some_and(|count| count != "0");
        Self { dn: entry.dn, readable, groups_readable: false, effective, own_password, settings, left_alone }
    }
}

impl User {
    fn grants(&self, viewpoint: &Viewpoint<'_>, right: Right) -> bool {
        match right {
            Right::ReadAccount => self.readable,
            Right::ReadTokenGroups => self.groups_readable,
            // What was shown.
            _ => self.effective.grants(&viewpoint.token, right),
        }
    }

    /// Whether somebody has decided that this user keeps his password. That is no fault of the service account's rights.
    fn keeps_his_password(&self) -> bool {
        self.own_password == OwnPassword::Denied
    }
}

/// The unit itself, each right on its users, and the accounts there that are left alone.
pub(super) async fn of_unit(
    viewpoint: &Viewpoint<'_>,
    base_dn: &str,
    groups: &Groups,
    settings: &mut PasswordSettings,
) -> Result<Vec<Finding>, RequestError> {
    let connection = viewpoint.connection;
    let below = Search {
        base: base_dn.to_owned(),
        scope: Scope::Subtree,
        // Of the containers, only the one that new users go to by default; others have hundreds below them.
        filter: "(|(objectClass=organizationalUnit)(&(objectClass=container)(cn=Users)))".to_owned(),
        attributes: &["ou"],
    };
    let no_unit = |said: &str| {
        let detail = format!("it is not there, or can't be read ({said})");
        Ok(vec![Finding::failed(Check::BaseDn, base_dn, detail).mended_by(Remedy::BaseDn)])
    };
    let (entries, result) = match connection.sample(UNITS, &below).await {
        // Of another domain: no controller of this one has it.
        Err(RequestError::CanNot { code: REFERRAL, said }) => return no_unit(&said),
        asked => asked?,
    };
    if !COMPLETE.contains(&result.rc) {
        return no_unit(&diagnostic(&result));
    }
    let mut units: Vec<String> = entries.into_iter().map(|entry| entry.dn).collect();
    // Itself, unless it has just been named; it need not be an organizational unit.
    if !units.iter().any(|unit| unit.eq_ignore_ascii_case(base_dn)) {
        units.push(base_dn.to_owned());
    }
    let (protected_row, protected) = protected::of_unit(viewpoint, base_dn, groups).await?;
    let mut users = sample(viewpoint, &units).await?;
    users.retain(|user| !protected.contains(&user.dn));
    settings.note(users.iter().map(|user| user.settings.as_deref()));
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
    let lacking = users.iter().filter(|user| !user.grants(viewpoint, right));
    let (own_settings, lacking): (Vec<&User>, Vec<&User>) =
        lacking.partition(|user| right == Right::ChangePassword && user.keeps_his_password());
    let (check, all) = (right.check(), users.len());
    let Some(first) = lacking.first() else {
        return granted(check, base_dn, all, &own_settings);
    };
    let mut cause = above.cause(viewpoint, right, base_dn, &first.dn, first.effective.descriptor.as_ref()).await;
    // One user may have a reason of his own. What the unit lacks is told first.
    for user in lacking.iter().skip(1) {
        if cause == Cause::NotGranted {
            break;
        }
        let other = above.cause(viewpoint, right, base_dn, &user.dn, user.effective.descriptor.as_ref()).await;
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

/// On all of them, but for those whose own setting it is that nobody changes their password.
fn granted(check: Check, base_dn: &str, all: usize, own_settings: &[&User]) -> Finding {
    let who = || named(own_settings.iter().map(|user| user.dn.as_str()));
    match own_settings.len() {
        0 => Finding::ok(check, base_dn, format!("granted on all {all} users that were looked at")),
        some if some < all => {
            let detail = format!(
                "granted on all {all} users that were looked at but {some}, which may not change their passwords by a setting \
                 of their own (\"User cannot change password\"): {}",
                who()
            );
            Finding::ok(check, base_dn, detail)
        }
        _ => {
            let detail = format!(
                "none of the {all} users that were looked at may change the password (\"User cannot change password\"), so \
                 every change is refused; resets are not"
            );
            Finding::warning(check, base_dn, detail)
        }
    }
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

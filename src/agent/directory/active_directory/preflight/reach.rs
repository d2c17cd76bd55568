//! Whether a domain controller can be reached, and is the one that was meant.

use std::net::{IpAddr, SocketAddr};

use super::super::authorization::AuthorizationIdentity;
use super::super::connection::Connection;
use super::super::controller::{Controller, ControllerError, RootDse};
use super::super::dialer::{DialError, Dialled, InVain};
use super::certificate;
use crate::agent::directory::{Check, Finding};
use crate::clock::Clock;
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::Untrusted;

/// Clocks that differ by more than this, in seconds, confuse deadlines and logs.
const CLOCK_WARNING: i64 = 60;

/// A controller that works, and a new connection to it, with the service account logged on.
pub(super) struct Reached {
    pub(super) connection: Connection,
    pub(super) root: RootDse,
    pub(super) domain: String,
    pub(super) identity: AuthorizationIdentity,
}

/// The findings in the order in which they were made; if it can't be used, the last says why.
pub(super) async fn reach(controller: &Controller, clock: &dyn Clock) -> (Vec<Finding>, Option<Reached>) {
    let mut findings = Vec::new();
    let reached = steps(controller, clock, &mut findings).await;
    controller.note(reached.is_ok());
    match reached {
        Ok(reached) => (findings, Some(reached)),
        Err(failed) => {
            findings.push(failed);
            (findings, None)
        }
    }
}

/// As far as TLS, where nobody has to log on: what was found, and whether it answers.
pub(super) async fn look_for(controller: &Controller, clock: &dyn Clock) -> (Vec<Finding>, bool) {
    let mut findings = Vec::new();
    let connected = connect(controller, clock, &mut findings).await;
    let answers = connected.is_ok();
    findings.extend(connected.err());
    (findings, answers)
}

/// The way that commands take.
async fn connect(
    controller: &Controller,
    clock: &dyn Clock,
    found: &mut Vec<Finding>,
) -> Result<(Connection, Vec<SocketAddr>), Finding> {
    let name = controller.name();
    match controller.dial().await {
        Ok(Dialled { connection, addresses, in_vain }) => {
            found.extend(named(controller, &addresses));
            found.push(taken(controller, &in_vain));
            found.push(tls(name, &connection, clock));
            Ok((connection, addresses))
        }
        Err(DialError::Name(why)) => Err(Finding::failed(Check::Dns, name, why).mended_by(Remedy::NameServers)),
        Err(DialError::NoTcp { addresses, in_vain }) => {
            found.extend(named(controller, &addresses));
            let (_, port) = controller.host_and_port();
            Err(Finding::failed(Check::Tcp, name, format!("port {port}: {in_vain}")).mended_by(Remedy::OpenPort))
        }
        Err(DialError::NoTls { addresses, in_vain }) => {
            found.extend(named(controller, &addresses));
            found.push(taken(controller, &InVain::default()));
            Err(Finding::failed(Check::Tls, name, format!("{name}: {in_vain}")))
        }
    }
}

/// Where its name leads.
fn named(controller: &Controller, addresses: &[SocketAddr]) -> Option<Finding> {
    let (host, _) = controller.host_and_port();
    let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    host.parse::<IpAddr>().is_err().then(|| Finding::ok(Check::Dns, controller.name(), shown.join(", ")))
}

fn taken(controller: &Controller, in_vain: &InVain) -> Finding {
    let (name, (_, port)) = (controller.name(), controller.host_and_port());
    let detail = format!("port {port} takes connections");
    if !in_vain.is_a_fault() {
        return Finding::ok(Check::Tcp, name, detail);
    }
    let detail = format!("{detail}, but not at every address that the name leads to ({in_vain}); another one is used");
    Finding::warning(Check::Tcp, name, detail).mended_by(Remedy::OpenPort)
}

/// Once more if it is the address alone, as commands do.
async fn steps(controller: &Controller, clock: &dyn Clock, found: &mut Vec<Finding>) -> Result<Reached, Finding> {
    let mut again = true;
    loop {
        let (connection, addresses) = connect(controller, clock, found).await?;
        let address = connection.address;
        match log_on(controller, connection, clock, found).await {
            Err(_) if again && controller.has_better(address, &addresses) => {
                again = false;
                found.clear();
            }
            ended => return ended,
        }
    }
}

async fn log_on(
    controller: &Controller,
    connection: Connection,
    clock: &dyn Clock,
    found: &mut Vec<Finding>,
) -> Result<Reached, Finding> {
    let name = controller.name();
    controller.bind(&connection).await.map_err(|error| {
        let remedy = match error {
            _ if controller.is_read_only() => Remedy::LeaveOut,
            ControllerError::NotBound { .. } | ControllerError::PasswordRefused { .. } => Remedy::ServiceAccount,
            ControllerError::Unreachable { .. } | ControllerError::NoAnswer { .. } => Remedy::OpenPort,
        };
        Finding::failed(Check::Bind, name, error.to_string()).mended_by(remedy)
    })?;
    found.push(Finding::ok(Check::Bind, name, format!("{} can log on", controller.service_account().name())));
    let asked = clock.now();
    let failed = |error: ControllerError| Finding::failed(Check::RootDse, name, error.to_string());
    let root = controller.root_dse(&connection).await.map_err(failed)?;
    let Some(domain) = root.default_naming_context.clone() else {
        return Err(Finding::failed(Check::RootDse, name, "it names no domain; is it a domain controller?"));
    };
    controller.try_search(&connection, &domain).await.map_err(failed)?;
    found.push(itself(controller, &root, &domain));
    found.extend(root.current_time.as_deref().and_then(unix_time).map(|its| clocks(name, its - asked.0)));
    let identity = AuthorizationIdentity::of(&connection, &root, controller.service_account().name()).await;
    let identity = identity.map_err(|error| Finding::failed(Check::RootDse, name, error.to_string()))?;
    Ok(Reached { connection, root, domain, identity })
}

/// TLS is up, so the certificate's chain and name are right.
fn tls(name: &str, connection: &Connection, clock: &dyn Clock) -> Finding {
    let certificate = connection.certificate();
    match certificate.and_then(|der| certificate::days_left(der, clock.now())) {
        Some((days, true)) => Finding::ok(Check::Tls, name, format!("trusted, for this name, {days} days left")),
        Some((days, false)) => {
            let detail = format!("the certificate is trusted and for this name, but ends in {days} days");
            Finding::warning(Check::Tls, name, detail).mended_by(Remedy::RenewCertificate)
        }
        None => Finding::ok(Check::Tls, name, "trusted, for this name"),
    }
}

fn itself(controller: &Controller, root: &RootDse, domain: &str) -> Finding {
    let (name, (host, _)) = (controller.name(), controller.host_and_port());
    match &root.dns_host_name {
        // A reset is followed up at the controller that took it, so a name that stands for several won't do.
        Some(own) if host.parse::<IpAddr>().is_err() && !own.eq_ignore_ascii_case(host) => {
            let own = Untrusted::from(own.as_str());
            Finding::warning(Check::RootDse, name, format!("the domain controller calls itself {}", own.cell()))
                .mended_by(Remedy::OwnName)
        }
        _ => Finding::ok(Check::RootDse, name, format!("a domain controller of {domain}")),
    }
}

fn clocks(name: &str, ahead: i64) -> Finding {
    let apart = match ahead {
        0 => "the same as here, to the second".to_owned(),
        1.. => format!("{ahead} s ahead of this host's"),
        _ => format!("{} s behind this host's", -ahead),
    };
    if ahead.abs() < CLOCK_WARNING {
        return Finding::ok(Check::Clock, name, apart);
    }
    Finding::warning(Check::Clock, name, format!("its clock is {apart}")).mended_by(Remedy::SetClocks)
}

/// `GeneralizedTime` as a domain controller writes it: `20260101000000.0Z`.
fn unix_time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !text.ends_with('Z') || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let time = time::Time::from_hms(hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api::PreflightState;

    #[test]
    fn a_domain_controllers_time_is_read_and_nonsense_is_not() {
        assert_eq!(unix_time("20260101000000.0Z"), Some(1_767_225_600));
        assert_eq!(unix_time("20241231235959Z"), Some(1_735_689_599));
        for text in ["", "2026", "20261301000000.0Z", "20260230000000.0Z", "20260101000000.0", "2026010100000\u{e9}0Z"]
        {
            assert_eq!(unix_time(text), None, "{text}");
        }
    }

    #[test]
    fn clocks_that_differ_are_told_with_the_direction() {
        assert_eq!(clocks("dc1", 59).state, PreflightState::Ok);
        let ahead = clocks("dc1", 400);
        assert!(ahead.state == PreflightState::Warning && ahead.detail.contains("400 s ahead"), "{ahead:?}");
        assert!(clocks("dc1", -61).detail.contains("61 s behind"));
    }
}

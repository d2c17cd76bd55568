//! Whether a domain controller can be reached, and is the one that was meant.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::connection::Connection;
use super::super::controller::{Controller, ControllerError, RootDse};
use super::certificate;
use crate::agent::counted;
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
}

/// The findings in the order in which they were made; if it can't be used, the last says why.
pub(super) async fn reach(controller: &Controller, clock: &dyn Clock) -> (Vec<Finding>, Option<Reached>) {
    let mut findings = Vec::new();
    match steps(controller, clock, &mut findings).await {
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

async fn connect(controller: &Controller, clock: &dyn Clock, found: &mut Vec<Finding>) -> Result<Connection, Finding> {
    let name = controller.name();
    let addresses = addresses(controller, found).await?;
    found.push(tcp(controller, &addresses).await?);
    let connection = controller.open().await.map_err(|error| untrusted(name, &error))?;
    found.push(tls(name, &connection, clock));
    Ok(connection)
}

async fn steps(controller: &Controller, clock: &dyn Clock, found: &mut Vec<Finding>) -> Result<Reached, Finding> {
    let name = controller.name();
    let connection = connect(controller, clock, found).await?;
    controller.bind(&connection).await.map_err(|error| {
        let remedy = if controller.is_read_only() { Remedy::LeaveOut } else { Remedy::ServiceAccount };
        Finding::failed(Check::Bind, name, error.to_string()).mended_by(remedy)
    })?;
    found.push(Finding::ok(Check::Bind, name, format!("{} can log on", controller.service_account().name())));
    let asked = clock.now();
    let failed = |error: ControllerError| Finding::failed(Check::RootDse, name, error.to_string());
    let root = controller.root_dse(&connection).await.map_err(failed)?;
    let Some(domain) = root.default_naming_context.clone() else {
        return Err(Finding::failed(Check::RootDse, name, "it names no domain; is it a domain controller?"));
    };
    found.push(itself(controller, &root, &domain));
    found.extend(root.current_time.as_deref().and_then(unix_time).map(|its| clocks(name, its - asked.0)));
    Ok(Reached { connection, root, domain })
}

/// Where its name leads.
async fn addresses(controller: &Controller, found: &mut Vec<Finding>) -> Result<Vec<SocketAddr>, Finding> {
    let (name, (host, _)) = (controller.name(), controller.host_and_port());
    let failed = |why: String| Finding::failed(Check::Dns, name, why).mended_by(Remedy::NameServers);
    let looked = timeout(controller.connect_timeout(), controller.addresses()).await;
    let looked = looked.map_err(|_| failed(format!("no answer to a question for {host}")))?;
    let addresses = looked.map_err(|error| failed(error.to_string()))?;
    if host.parse::<IpAddr>().is_err() {
        let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        found.push(Finding::ok(Check::Dns, name, shown.join(", ")));
    }
    Ok(addresses)
}

async fn tcp(controller: &Controller, addresses: &[SocketAddr]) -> Result<Finding, Finding> {
    let (name, (_, port)) = (controller.name(), controller.host_and_port());
    let why = match timeout(controller.connect_timeout(), TcpStream::connect(addresses)).await {
        Ok(Ok(_)) => return Ok(Finding::ok(Check::Tcp, name, format!("port {port} takes connections"))),
        Ok(Err(error)) => format!("port {port}: {error}"),
        Err(_) => format!("port {port}: no answer within {} s", controller.connect_timeout().as_secs()),
    };
    Err(Finding::failed(Check::Tcp, name, why).mended_by(Remedy::OpenPort))
}

fn untrusted(name: &str, error: &ControllerError) -> Finding {
    Finding::failed(Check::Tls, name, error.to_string())
}

/// TLS is up, so the certificate's chain and name are right.
fn tls(name: &str, connection: &Connection, clock: &dyn Clock) -> Finding {
    let certificate = connection.certificate();
    match certificate.and_then(|der| certificate::days_left(der, clock.now())) {
        Some((days, true)) => Finding::ok(Check::Tls, name, format!("trusted, for this name, {} left", spoken(days))),
        Some((days, false)) => {
            let detail = format!("the certificate is trusted and for this name, but ends in {}", spoken(days));
            Finding::warning(Check::Tls, name, detail).mended_by(Remedy::RenewCertificate)
        }
        None => Finding::ok(Check::Tls, name, "trusted, for this name"),
    }
}

fn spoken(days: i64) -> String {
    counted(usize::try_from(days).unwrap_or_default(), "day")
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

//! What the domain controllers run: for whoever helps.

use ldap3::{Scope, ldap_escape};

use super::ActiveDirectory;
use super::connection::{Connection, Search};
use super::controller::{Controller, ControllerError};
use super::dialer::{DialError, Dialled};
use super::entry::text;
use super::preflight::side_by_side;
use crate::protocol::untrusted::Untrusted;

impl ActiveDirectory {
    /// A line for each controller: its name, its addresses, and its operating system as the directory has it.
    pub async fn versions(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for domain in &self.domains {
            match domain.controllers().await {
                Ok(controllers) => lines.extend(side_by_side(controllers.iter().map(|one| line(one)).collect()).await),
                Err(error) => lines.push(format!("{}: {error}", domain.name())),
            }
        }
        lines
    }
}

async fn line(controller: &Controller) -> String {
    let dialled = controller.dial().await;
    let addresses = match &dialled {
        Ok(Dialled { addresses, .. })
        | Err(DialError::NoTcp { addresses, .. } | DialError::NoTls { addresses, .. }) => {
            addresses.iter().map(|at| at.ip().to_string()).collect::<Vec<_>>().join(", ")
        }
        Err(DialError::Name(_)) => "no address".to_owned(),
    };
    let runs = match dialled {
        Ok(Dialled { connection, .. }) => system(controller, &connection).await,
        Err(error) => return format!("{} ({addresses}): {error}", controller.name()),
    };
    let runs = match runs {
        Ok(Some(system)) => Untrusted::from(system).cell(),
        Ok(None) => "it does not say what it runs".to_owned(),
        Err(error) => error.to_string(),
    };
    format!("{} ({addresses}): {runs}", controller.name())
}

/// The computer account's own words.
async fn system(controller: &Controller, connection: &Connection) -> Result<Option<String>, ControllerError> {
    controller.bind(connection).await?;
    let root = controller.root_dse(connection).await?;
    let (Some(domain), Some(host)) = (root.default_naming_context, root.dns_host_name) else { return Ok(None) };
    let search = Search {
        base: domain,
        scope: Scope::Subtree,
        filter: format!("(&(objectClass=computer)(dNSHostName={}))", ldap_escape(host)),
        attributes: &["operatingSystem", "operatingSystemVersion"],
    };
    let found = connection.search(&search).await;
    let (entries, _) =
        found.map_err(|error| ControllerError::NoAnswer { controller: controller.name().to_owned(), error })?;
    let Some(entry) = entries.first() else { return Ok(None) };
    let said = [text(entry, "operatingSystem"), text(entry, "operatingSystemVersion")];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(Some(said).filter(|said| !said.is_empty()))
}

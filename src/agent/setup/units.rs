//! The units, to choose from.

use super::SetupError;
use super::terminal::Terminal;
use crate::agent::counted;
use crate::agent::directory::active_directory::Unit;
use crate::protocol::untrusted::one_line;

pub(super) const WHOLE_DOMAIN: &str = "the whole domain";
const QUESTION: &str = "Units to serve (numbers, or OU=Staff,DC=corp,DC=example; ...)";
const FLAG: &str = "--unit";

/// Shows the units that there are.
pub(super) fn show(units: &[Unit], terminal: &mut dyn Terminal) -> Result<(), SetupError> {
    let name = |at: usize, unit: &Unit| match at {
        0 => format!("{WHOLE_DOMAIN}, {}", unit.dn),
        _ => unit.dn.clone(),
    };
    let width = units.iter().enumerate().map(|(at, unit)| name(at, unit).chars().count()).max().unwrap_or_default();
    for (at, unit) in units.iter().enumerate() {
        let more = if unit.more { " or more" } else { "" };
        // Whoever may make a unit chooses its name.
        let name = name(at, unit);
        let (name, users) = (one_line(&name), counted(unit.users, "user"));
        terminal.say(&format!("   {:>3}  {name:<width$}  {users}{more}", at + 1))?;
    }
    Ok(())
}

/// Asks for some of them; none is the whole domain.
pub(super) fn asked(units: &[Unit], before: &[String], terminal: &mut dyn Terminal) -> Result<Vec<String>, SetupError> {
    let default = if before.is_empty() { WHOLE_DOMAIN.to_owned() } else { before.join("; ") };
    loop {
        let answer = terminal.ask(QUESTION, FLAG, Some(&default))?;
        match chosen(&answer, units) {
            Ok(chosen) => return Ok(chosen),
            Err(number) => terminal.object(&format!("there is no unit {number} in the list"))?,
        }
    }
}

/// Numbers, or names: distinguished names hold commas, so semicolons are between them.
fn chosen(answer: &str, units: &[Unit]) -> Result<Vec<String>, usize> {
    let is_number = |c: char| c.is_ascii_digit() || c.is_whitespace() || matches!(c, ',' | ';');
    if answer.chars().all(is_number) {
        let numbers = answer.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
        // None that is too large is in the list.
        let numbers: Vec<_> = numbers.map(|number| number.parse().unwrap_or(usize::MAX)).collect();
        // Nobody has said that it is the whole domain.
        if numbers.is_empty() {
            return Err(0);
        }
        if numbers.contains(&1) {
            return Ok(Vec::new());
        }
        let unit = |number: &usize| {
            let unit = number.checked_sub(1).and_then(|at| units.get(at));
            unit.map(|unit| unit.dn.clone()).ok_or(*number)
        };
        return numbers.iter().map(unit).collect();
    }
    let names = answer.split(';').map(str::trim);
    Ok(names.filter(|name| !name.is_empty() && *name != WHOLE_DOMAIN).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_chosen_by_their_numbers_or_their_names() {
        let unit = |dn: &str| Unit { dn: dn.to_owned(), users: 1, more: false };
        let units = [unit("DC=d"), unit("OU=A,DC=d"), unit("OU=B,DC=d")];
        let chosen = |answer: &str| chosen(answer, &units);
        assert_eq!(chosen("2, 3").unwrap(), ["OU=A,DC=d", "OU=B,DC=d"]);
        assert_eq!(chosen("3").unwrap(), ["OU=B,DC=d"]);
        assert_eq!(chosen("OU=A,DC=b; OU=C,DC=d ;").unwrap(), ["OU=A,DC=b", "OU=C,DC=d"]);
        for whole in [WHOLE_DOMAIN, "1", "1 2"] {
            assert!(chosen(whole).unwrap().is_empty(), "{whole}");
        }
        assert_eq!((chosen("4"), chosen("0")), (Err(4), Err(0)));
        assert_eq!((chosen(";"), chosen("999999999999999999999999")), (Err(0), Err(usize::MAX)));
    }
}

//! `agent.toml` with some settings changed, and every other line as somebody has written it.

use toml::Table;

const ODD: &str = "it is not written as setup can change it";

/// Sets `key` in `[section]` to a value in TOML, or takes it away. A section that is not there is added at the end.
///
/// # Errors
/// If the text is not laid out in a way that can be changed line by line; then why.
pub(super) fn set(text: &str, section: &str, key: &str, value: Option<&str>) -> Result<String, &'static str> {
    let mut meant = text.parse::<Table>().map_err(|_| ODD)?;
    change(&mut meant, section, key, value).ok_or(ODD)?;
    let mut lines: Vec<&str> = text.lines().collect();
    let setting = value.map(|value| format!("{key} = {value}"));
    let head = lines.iter().position(|line| is_head(line) == Some(section));
    let Some(head) = head else {
        let head = format!("[{section}]");
        if let Some(setting) = &setting {
            lines.extend(["", &head, setting]);
        }
        return checked(&lines, &meant);
    };
    let end = lines.iter().skip(head + 1).position(|line| line.trim_start().starts_with('['));
    let end = end.map_or(lines.len(), |behind| head + 1 + behind);
    let begins = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let at = lines.iter().take(end).skip(head + 1).position(begins).map(|behind| head + 1 + behind);
    match at {
        Some(at) => {
            // An array may have a line for each of its items.
            let whole = (at + 1..=lines.len()).find(|to| {
                let setting = lines.get(at..*to).unwrap_or_default().join("\n");
                setting.parse::<Table>().is_ok_and(|table| table.len() == 1 && table.contains_key(key))
            });
            let to = whole.ok_or("a setting in it has no end")?;
            lines.splice(at..to, setting.as_deref());
        }
        // Directly below the head, for below a comment it would be taken for what that is about.
        None => drop(lines.splice(head + 1..head + 1, setting.as_deref())),
    }
    checked(&lines, &meant)
}

/// The same in what the text says. None, if the section is no table.
fn change(table: &mut Table, section: &str, key: &str, value: Option<&str>) -> Option<()> {
    let value = value.and_then(|value| format!("{key} = {value}").parse::<Table>().ok()?.remove(key));
    match (table.get_mut(section), value) {
        (Some(there), Some(value)) => drop(there.as_table_mut()?.insert(key.to_owned(), value)),
        (Some(there), None) => drop(there.as_table_mut()?.remove(key)),
        (None, Some(value)) => {
            table.insert(section.to_owned(), Table::from_iter([(key.to_owned(), value)]).into());
        }
        (None, None) => {}
    }
    Some(())
}

fn is_head(line: &str) -> Option<&str> {
    let line = line.split('#').next()?.trim();
    Some(line.strip_prefix('[')?.strip_suffix(']')?.trim()).filter(|name| !name.starts_with('['))
}

/// The text says what is meant, all of it and nothing else, or it is not used.
fn checked(lines: &[&str], meant: &Table) -> Result<String, &'static str> {
    let text = lines.join("\n") + "\n";
    if text.parse::<Table>().is_ok_and(|says| says == *meant) { Ok(text) } else { Err(ODD) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "# Ours.\n[relay]\nca_file = \"a.pem\" # the old one\n\n[directory] # AD\nkind = \"active_directory\"\n\
                           base_dn = [\n  \"OU=A,DC=b\", # first\n  \"OU=B=C,DC=b\",\n]\n# asked again\nsites = [\"Berlin\"]\n\
                           [execution]\nparallel = 3\n";

    #[test]
    fn one_setting_is_changed_and_every_other_line_stays() {
        let units = set(WRITTEN, "directory", "base_dn", Some("[\"OU=X,DC=b\"]")).unwrap();
        let expected = WRITTEN
            .replace("base_dn = [\n  \"OU=A,DC=b\", # first\n  \"OU=B=C,DC=b\",\n]\n", "base_dn = [\"OU=X,DC=b\"]\n");
        assert_eq!(units, expected);
        let added = set(WRITTEN, "directory", "start_tls", Some("true")).unwrap();
        assert_eq!(added, WRITTEN.replace("[directory] # AD\n", "[directory] # AD\nstart_tls = true\n"));
        let gone = set(WRITTEN, "directory", "sites", None).unwrap();
        assert_eq!(gone, WRITTEN.replace("sites = [\"Berlin\"]\n", ""));
        let section = set(WRITTEN, "telemetry", "log_format", Some("\"text\"")).unwrap();
        assert!(section.starts_with(WRITTEN) && section.ends_with("[telemetry]\nlog_format = \"text\"\n"), "{section}");
        assert_eq!(set(WRITTEN, "directory", "domain", None).unwrap(), WRITTEN);
    }

    #[test]
    fn what_is_written_in_another_way_is_refused_and_never_made_wrong() {
        for other in [
            "directory.base_dn = [\"OU=A,DC=b\"]\n",
            "directory = { base_dn = \"OU=A,DC=b\" }\n",
            "[directory]\n\"base_dn\" = \"OU=A,DC=b\"\n",
            "[directory]\nother = '''\n[directory]\nbase_dn = \"x\"\n'''\nbase_dn = \"y\"\n",
        ] {
            let changed = set(other, "directory", "base_dn", Some("[\"OU=X,DC=b\"]"));
            let mut meant = other.parse::<Table>().unwrap();
            meant["directory"]["base_dn"] = vec!["OU=X,DC=b"].into();
            assert!(
                changed.as_ref().is_ok_and(|text| text.parse::<Table>().unwrap() == meant) || changed.is_err(),
                "{changed:?}"
            );
        }
    }
}

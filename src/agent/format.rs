//! The form of the files in the agent's folder. A newer program reads what an older one wrote; an older program refuses
//! what a newer one wrote, because it would lose what it does not know.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::storage::{FileError, PrivateFile};

/// The form that this program writes. It becomes greater when an older program could not read, or would lose, something.
pub(super) const FORMAT: u32 = 1;

/// The number of the form, as it stands in a file. Files from before it was written have the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FORMAT.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            1..=FORMAT => Ok(Self),
            _ => Err(serde::de::Error::custom("the number of the format is not known")),
        }
    }
}

/// Looks at nothing but the number of the form: the rest may be of a form that is not known here.
///
/// # Errors
/// If a newer program has written the file.
pub(super) fn check(file: &PrivateFile, json: &str) -> Result<(), FileError> {
    #[derive(Deserialize)]
    struct Only {
        #[serde(default)]
        format: u32,
    }
    match serde_json::from_str(json) {
        Ok(Only { format: found }) if found > FORMAT => {
            Err(FileError::Newer { path: file.path().to_owned(), found, known: FORMAT })
        }
        // What is wrong otherwise, whoever reads the rest says better.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::home::{read_json, write_json};
    use crate::agent::testing::Enrolled;

    #[tokio::test]
    async fn what_a_newer_program_wrote_is_refused_by_its_number_and_not_called_damaged() {
        let agent = Enrolled::new().await;
        let home = agent.home();
        let newer = r#"{"format": 2, "something": "that is not known here"}"#;
        let known = std::fs::read_to_string(home.identity_file().path()).unwrap();
        assert!(known.contains(r#""format": 1"#), "{known}");
        home.identity_file().replace(newer).unwrap();
        home.keys_file().replace(newer).unwrap();
        for error in [home.identity().unwrap_err(), home.keyring().unwrap_err()] {
            let said = error.to_string();
            assert!(said.contains("written by a newer version") && said.contains("install"), "{said}");
            assert!(said.contains("format 2") && said.contains(".json"), "{said}");
        }
        // A number that was never written is damage.
        for damaged in [r#"{"format": 0}"#, r#"{"format": "2"}"#, r#"{"format": -1}"#] {
            home.identity_file().replace(damaged).unwrap();
            assert!(home.identity().unwrap_err().to_string().contains("damaged"), "{damaged}");
        }
    }

    #[test]
    fn what_was_written_before_there_was_a_number_is_of_the_first_form() {
        #[derive(Serialize, Deserialize)]
        struct Stored {
            #[serde(default)]
            format: Format,
            inside: u8,
        }
        let dir = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(dir.path().join("stored.json"));
        file.replace(r#"{"inside": 7}"#).unwrap();
        let stored: Stored = read_json(&file).unwrap().unwrap();
        write_json(&file, &stored).unwrap();
        let again: Stored = read_json(&file).unwrap().unwrap();
        assert_eq!((again.inside, again.format), (7, Format));
    }
}

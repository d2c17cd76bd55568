//! A secret that a service is given: in a private file, as a systemd credential, or in its environment.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{FileError, PrivateFile, read_text};

/// Where a secret is. It is read again each time, so that a new one needs no restart where the source can change.
#[derive(Debug, Clone)]
pub struct Secret {
    /// As it was written.
    place: PathBuf,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    File(PrivateFile),
    Credential(String),
    Environment(String),
    Given(Given),
}

/// One that somebody has just said.
#[derive(Clone)]
struct Given(Zeroizing<String>);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl Secret {
    /// `credential:NAME` is a systemd credential (`LoadCredential=NAME:FILE`), `env:NAME` a variable of the environment;
    /// anything else is a file of mode 0600.
    #[must_use]
    pub fn at(place: &Path) -> Self {
        let text = place.to_str().unwrap_or_default();
        let source = match text.split_once(':') {
            Some(("credential", name)) => Source::Credential(name.to_owned()),
            Some(("env", name)) => Source::Environment(name.to_owned()),
            _ => Source::File(PrivateFile::new(place)),
        };
        Self { place: place.to_owned(), source }
    }

    /// The secret itself, before it is kept anywhere.
    #[must_use]
    pub fn given(secret: Zeroizing<String>) -> Self {
        Self { place: PathBuf::new(), source: Source::Given(Given(secret)) }
    }

    /// Where it is, as it was written, for people; nothing of one that is in no place yet.
    #[must_use]
    pub fn place(&self) -> Option<&Path> {
        match self.source {
            Source::Given(_) => None,
            _ => Some(&self.place),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is missing, unreadable, or open to others.
    pub fn read(&self) -> Result<Zeroizing<String>, FileError> {
        self.read_from(|name| std::env::var_os(name))
    }

    fn read_from(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Zeroizing<String>, FileError> {
        let missing = |why: &str| FileError::Io { path: self.place.clone(), error: io::Error::other(why.to_owned()) };
        match &self.source {
            Source::File(file) => file.read(),
            Source::Given(Given(secret)) => Ok(secret.clone()),
            Source::Environment(name) => {
                let value = variable(name).ok_or_else(|| missing("the environment has no such variable"))?;
                value.into_string().map(Zeroizing::new).map_err(|_| missing("the variable is not UTF-8"))
            }
            Source::Credential(name) => {
                let folder = variable("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    missing("systemd gave this process no credentials: put LoadCredential=NAME:FILE into its unit")
                })?;
                let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
                let name = if plain { name } else { return Err(missing("a credential's name has no slash")) };
                let path = PathBuf::from(folder).join(name);
                let io = |error| FileError::Io { path: path.clone(), error };
                let mode = std::fs::metadata(&path).map_err(io)?.permissions().mode() & 0o777;
                // systemd lets the service's user in by an access list, which shows as the group's bits.
                if mode & 0o037 != 0 {
                    return Err(FileError::Mode { path, mode });
                }
                read_text(&path).map_err(io)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_secret_comes_from_a_private_file_a_credential_or_the_environment_and_says_where_it_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let read = |place: &str| {
            let variable = |name: &str| match name {
                "CREDENTIALS_DIRECTORY" => Some(dir.path().as_os_str().to_owned()),
                "BIND" => Some("from-env".into()),
                _ => None,
            };
            Secret::at(Path::new(place)).read_from(variable).map(|secret| secret.to_string()).map_err(|e| e.to_string())
        };
        let file = dir.path().join("bind");
        fs::write(&file, "from-file").unwrap();
        let mode = |bits| fs::set_permissions(&file, Permissions::from_mode(bits)).unwrap();
        mode(0o440);
        assert_eq!(read("credential:bind").as_deref(), Ok("from-file"));
        assert!(read(file.to_str().unwrap()).unwrap_err().contains("chmod 600"));
        mode(0o444);
        assert!(read("credential:bind").unwrap_err().contains("others may read"));
        mode(0o600);
        assert_eq!(read(file.to_str().unwrap()).as_deref(), Ok("from-file"));
        assert_eq!(read("env:BIND").as_deref(), Ok("from-env"));
        for place in ["env:OTHER", "credential:other", "credential:../bind", "credential:"] {
            let error = read(place).unwrap_err();
            assert!(
                ["no such variable", "/other", "no slash"].iter().any(|why| error.contains(why)),
                "{place}: {error}"
            );
        }
        let none = Secret::at(Path::new("credential:bind")).read_from(|_| None).unwrap_err().to_string();
        assert!(none.contains("credential:bind") && none.contains("LoadCredential"), "{none}");
    }
}

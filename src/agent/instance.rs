//! One start of the agent's process. The relay keeps the sessions of the greatest instance and displaces the others for
//! good, so a later start must have a greater one, also when the host's clock was set back in between.

use serde::{Deserialize, Serialize};

use crate::agent::format::Format;
use crate::agent::home::{Home, read_json, write_json};
use crate::clock::{Clock, Random};
use crate::protocol::ids::InstanceId;
use crate::storage::FileError;

/// `instance.json`; once it was the id alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "the id of an instance is expected")]
enum Stored {
    Bare(InstanceId),
    Started { format: Format, instance: InstanceId },
}

/// A clock that stands still.
struct Moment(u64);

impl Clock for Moment {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

/// A new instance, greater than the last one of this folder, and on disk as the last one from now on.
///
/// # Errors
/// If the file is unreadable, damaged, open to others, or can't be written.
pub(super) fn next_instance(home: &Home, clock: &dyn Clock, random: &dyn Random) -> Result<InstanceId, FileError> {
    let file = home.instance_file();
    let last: Option<Stored> = read_json(&file)?;
    let last = last.map(|(Stored::Bare(instance) | Stored::Started { instance, .. })| instance);
    let moment = Moment(clock.now_ms().max(last.map_or(0, |last| made_at_ms(last) + 1)));
    let instance = InstanceId::new(&moment, random);
    write_json(&file, &Stored::Started { format: Format, instance })?;
    Ok(instance)
}

/// Milliseconds since the Unix epoch: the first 48 bits of a UUIDv7 (RFC 9562 §5.7).
fn made_at_ms(instance: InstanceId) -> u64 {
    instance.as_bytes().iter().take(6).fold(0, |ms, byte| ms << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Hands, NOW};
    use crate::clock::System;

    #[test]
    fn each_start_has_a_greater_one_whatever_the_clock_does() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Hands::at(NOW);
        let mut last = None;
        // It stands still, is set back a second, back to the beginning of time, and forward.
        for now in [NOW, NOW, NOW - 1, 0, NOW + 1, NOW] {
            clock.set(now);
            let next = next_instance(&Home::new(dir.path()), &*clock, &System).unwrap();
            let text = Some(next.to_string());
            assert!(text > last, "{now}: {text:?} after {last:?}");
            last = text;
        }
    }

    #[test]
    fn it_tells_when_it_was_made() {
        let clock = Hands::at(NOW);
        assert_eq!(made_at_ms(InstanceId::new(&*clock, &System)), clock.now_ms());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        home.instance_file().replace("\"no id\"").unwrap();
        let error = next_instance(&home, &System, &System).unwrap_err();
        assert!(error.to_string().contains("instance.json"), "{error}");
    }
}

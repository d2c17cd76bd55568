//! Whether the store takes writes now. One that does not is still read: agents stay connected, and the operator sees who is
//! there and takes rights away, as far as the store lets anybody.

use tokio::sync::watch;

use super::StoreError;
use crate::protocol::remedy::Remedy;

macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident, $name:literal, $detail:literal, $remedy:ident;)*) => {
        /// Why a store takes no writes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause { $($(#[$doc])* $cause,)* }

        impl Cause {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$cause),*];

            /// In one word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$cause => $name,)* }
            }

            /// What is wrong, for people.
            #[must_use]
            pub fn detail(self) -> &'static str {
                match self { $(Self::$cause => $detail,)* }
            }

            /// What to do.
            #[must_use]
            pub fn remedy(self) -> Remedy {
                match self { $(Self::$cause => Remedy::$remedy,)* }
            }
        }
    };
}

causes! {
    /// Redis at `maxmemory` (`OOM`).
    Memory, "out_of_memory",
        "redis has reached its maxmemory",
        RedisMemory;
    /// A replica that takes no writes (`READONLY`).
    ReadOnly, "read_only",
        "redis is a read-only replica",
        RedisMaster;
    /// The last snapshot or append failed (`MISCONF`).
    NotPersisted, "not_persisted",
        "redis can't write to its own disk",
        RedisDisk;
    /// Fewer replicas than `min-replicas-to-write` (`NOREPLICAS`).
    Replicas, "too_few_replicas",
        "redis has fewer replicas than its min-replicas-to-write",
        RedisReplicas;
    /// A user who may not run what is needed (`NOPERM`).
    Rights, "rights",
        "redis refuses a command to the relay's user",
        RedisRights;
    /// There is little left on the disk of `data_dir`.
    Disk, "disk_full",
        "the disk of data_dir is full",
        MakeRoom;
    /// Nobody answers.
    Away, "away",
        "redis does not answer",
        RedisAway;
}

/// What is known of it. Whoever was refused says so, and a look once a second says when that is over.
#[derive(Debug)]
pub struct Writes(watch::Sender<Option<Cause>>);

impl Default for Writes {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Writes {
    /// A write was refused, or would be.
    pub fn refused(&self, cause: Cause) {
        if self.set(Some(cause)) {
            let (why, remedy) = (cause.detail(), cause.remedy().text());
            tracing::error!(cause = cause.as_str(), remedy, "the store takes no writes: {why}");
        }
    }

    /// Writes are taken.
    pub fn taken(&self) {
        if self.set(None) {
            tracing::info!("the store takes writes again");
        }
    }

    /// Whether that is news.
    fn set(&self, cause: Option<Cause>) -> bool {
        self.0.send_if_modified(|known| std::mem::replace(known, cause) != cause)
    }

    /// Why they are not taken, if they are not.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        *self.0.borrow()
    }

    /// For whoever would wait for something first.
    ///
    /// # Errors
    /// If a write would be refused now.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.cause() {
            None => Ok(()),
            Some(Cause::Away) => Err(StoreError::Unanswered(Cause::Away.detail().to_owned())),
            Some(cause) => Err(StoreError::NotWritable(cause)),
        }
    }

    /// Tells of each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Cause>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_at_once_with_its_cause_until_a_write_is_taken() {
        let writes = Writes::default();
        let mut news = writes.subscribe();
        assert!(writes.check().is_ok());
        writes.refused(Cause::Memory);
        assert_eq!(*news.borrow_and_update(), Some(Cause::Memory));
        writes.refused(Cause::Memory);
        assert!(!news.has_changed().unwrap(), "that was known");
        assert!(writes.check().unwrap_err().to_string().contains("maxmemory"));
        writes.refused(Cause::Away);
        assert_eq!(writes.cause(), Some(Cause::Away));
        writes.taken();
        assert!(writes.check().is_ok() && writes.cause().is_none());
    }
}

//! Whether the registry is still the one that this node had. One that came back empty or older knows no credential of those
//! that it lacks: they are told to come again, and not that they are wrong.
//!
//! What is known: the marks that this node saw last, in memory and in a file of its `data_dir`; and what other nodes missed,
//! beside the marks in the store. What is not: a store that lost everything while no node ran that has such a file.

mod kept;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::kept::Kept;
use super::StoreError;
use super::registry::{Loss, Mark, Marked, Part, Registry};
use crate::protocol::ids::TenantId;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many tenants' agents at a time: of some thousand tenants all within a minute.
const TENANTS_AT_A_TIME: usize = 64;

/// Whether the registry is still the one that this node had.
pub struct Continuity {
    registry: Arc<dyn Registry>,
    kept: Kept,
    lost: Mutex<BTreeMap<Part, Loss>>,
    /// How many tenants there were when it was last looked.
    tenants: AtomicU64,
    /// Tenants whose agents are to be looked at in this round.
    round: Mutex<Vec<TenantId>>,
    /// One look at a time: when the last one began, and how it went.
    looked: tokio::sync::Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

impl Continuity {
    /// Of this registry. What is known of it is kept in `folder`.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, folder: &Path) -> Self {
        Self {
            registry,
            kept: Kept::open(folder),
            lost: Mutex::default(),
            tenants: AtomicU64::default(),
            round: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        }
    }

    /// There was a registry, whatever is known of it: what stands beside it is there, and it is not.
    pub fn expect_some(&self) {
        if self.kept.get(&Part::Tenants).is_none() {
            let mark = Mark { id: "an-unknown-one".to_owned(), revision: 0, head: String::new() };
            self.kept.put(&Part::Tenants, Some(mark));
        }
    }

    /// What is not what it was when it was last looked: what weighs most.
    #[must_use]
    pub fn lost(&self) -> Option<(Part, Loss)> {
        let lost = self.lost.lock();
        // Tenants and portals come before any tenant's agents.
        lost.iter().next().map(|(part, loss)| (part.clone(), *loss))
    }

    /// The same, in a sentence.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let lost = self.lost.lock();
        let (part, loss) = lost.iter().next()?;
        let others = lost.len() - 1;
        let more = if others == 0 { String::new() } else { format!(" (and {others} more parts)") };
        let whole = *part == Part::Tenants && *loss == Loss::Empty;
        let whose = if whole { String::new() } else { format!(", as far as {part} go{more}") };
        Some(format!("the registry is lost{whose}: {}", loss.detail()))
    }

    /// How many tenants there are, as far as this node has seen.
    #[must_use]
    pub fn tenants(&self) -> u64 {
        self.tenants.load(Ordering::Relaxed)
    }

    /// Looks now, before somebody is told that the registry does not have what he asks for. What is lost and would have
    /// answered it, if anything is.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn missing(&self, part: &Part) -> Result<Option<Loss>, StoreError> {
        let asked = Instant::now();
        {
            let mut looked = self.looked.lock().await;
            // Whoever waited for a look that began after his question has his answer.
            let answered = looked.as_ref().filter(|(began, _)| *began > asked).map(|(_, how)| how.clone());
            if answered.is_none() {
                let began = Instant::now();
                *looked = Some((began, self.look_at([&Part::Tenants, &Part::Portals]).await));
            }
            looked.as_ref().map_or(Ok(()), |(_, how)| how.clone())?;
        }
        if matches!(part, Part::Agents(_)) {
            self.look_at([part]).await?;
        }
        let lost = self.lost.lock();
        Ok([&Part::Tenants, &Part::Portals, part].iter().find_map(|part| lost.get(*part).copied()))
    }

    /// Takes the registry as it is, in place of what is missed. How many of its parts were lost until now.
    ///
    /// # Errors
    /// If the store does not answer, or takes no writes; then some of them may be taken.
    pub async fn accept(&self) -> Result<usize, StoreError> {
        let tenants = self.registry.tenant_names().await?.into_iter();
        let mut parts = self.kept.parts();
        parts.extend([Part::Tenants, Part::Portals].into_iter().chain(tenants.map(Part::Agents)));
        let (parts, mut accepted) = (Vec::from_iter(parts), 0);
        for some in parts.chunks(TENANTS_AT_A_TIME) {
            self.look_at(some).await?;
            let lost: Vec<_> = some.iter().filter(|part| self.lost.lock().contains_key(part)).collect();
            for taken in join_all(lost.iter().map(|part| self.accept_one(part))).await {
                taken?;
            }
            self.look_at(lost.iter().copied()).await?;
            accepted += lost.len();
        }
        Ok(accepted)
    }

    async fn accept_one(&self, part: &Part) -> Result<(), StoreError> {
        let known = self.kept.get(part).map(|mark| mark.id);
        self.registry.accept(part, known.as_deref()).await
    }

    /// Looks, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(error) = self.look().await {
                // Whoever asks the store for anything says so.
                tracing::debug!(%error, "the registry could not be looked at");
            }
        }
    }

    /// Looks at tenants and portals, and at the agents of the tenants whose turn it is.
    async fn look(&self) -> Result<(), StoreError> {
        let mut looked = self.looked.lock().await;
        let began = Instant::now();
        let how = self.look_at([&Part::Tenants, &Part::Portals]).await;
        *looked = Some((began, how.clone()));
        drop(looked);
        how?;
        let due = self.due().await?;
        self.look_at(&due).await
    }

    /// The agents of the next tenants: of those that are there, and of those that were.
    async fn due(&self) -> Result<Vec<Part>, StoreError> {
        if self.round.lock().is_empty() {
            let mut all = self.registry.tenant_names().await?;
            all.extend(self.kept.parts().into_iter().filter_map(|part| match part {
                Part::Agents(tenant) => Some(tenant),
                Part::Tenants | Part::Portals => None,
            }));
            all.sort();
            all.dedup();
            *self.round.lock() = all;
        }
        let mut round = self.round.lock();
        let from = round.len().saturating_sub(TENANTS_AT_A_TIME);
        Ok(round.drain(from..).map(Part::Agents).collect())
    }

    async fn look_at<'a>(&self, parts: impl IntoIterator<Item = &'a Part>) -> Result<(), StoreError> {
        let looks = join_all(parts.into_iter().map(|part| self.look_at_one(part))).await;
        self.kept.save().await;
        looks.into_iter().collect()
    }

    async fn look_at_one(&self, part: &Part) -> Result<(), StoreError> {
        let known = self.kept.get(part);
        let seen = self.registry.marked(part, known.as_ref().map_or(0, |mark| mark.revision)).await?;
        if *part == Part::Tenants {
            self.tenants.store(seen.records, Ordering::Relaxed);
        }
        match seen.check(known.as_ref()) {
            Ok(()) => self.found(part, seen).await,
            Err(loss) => self.missed(part, known, &seen, loss).await,
        }
        Ok(())
    }

    async fn found(&self, part: &Part, seen: Marked) {
        if self.lost.lock().remove(part).is_some() {
            match part {
                Part::Agents(_) => tracing::debug!("the registry is complete again, as far as {part} go"),
                Part::Tenants | Part::Portals => tracing::info!("the registry is complete again, as far as {part} go"),
            }
        }
        if seen.mark.is_none()
            && seen.records > 0
            && let Err(error) = self.registry.mark(part).await
        {
            tracing::debug!(%error, "the registry could not be marked; it is tried again");
        }
        self.kept.put(part, seen.mark);
    }

    async fn missed(&self, part: &Part, known: Option<Mark>, seen: &Marked, loss: Loss) {
        let (is_new, is_whole) = {
            let mut lost = self.lost.lock();
            let is_new = lost.insert(part.clone(), loss) != Some(loss);
            (is_new, matches!(part, Part::Agents(_)) && lost.contains_key(&Part::Tenants))
        };
        // With the tenants their agents are lost: that is said once, and not for each of them.
        if is_new && !is_whole {
            tracing::error!(
                loss = loss.as_str(),
                "the registry is lost, as far as {part} go: {}; restore it (writeback-relay registry import), or say that it is \
                 to be as it is (writeback-relay registry accept)",
                loss.detail()
            );
        }
        if let Some(known) = known
            && !seen.missing.contains(&known.id)
            && let Err(error) = self.registry.miss(part, &known.id).await
        {
            tracing::debug!(%error, "what is missed could not be noted in the store; it is tried again");
        }
    }
}

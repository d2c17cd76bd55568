//! How large everything is.

use std::time::Duration;

use crate::bench::Fallible;
use crate::bench::limits;
use crate::bench::measure::{Commands, scene};
use crate::bench::stage::Scene;
use crate::bench::subject::Subject;

/// Portals, each with a key of its own.
const PORTALS: usize = 4;

/// Sizes of all measurements.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether they are large enough for figures to mean something.
    pub(super) judged: bool,
    /// Memory, and CPU, at so many agents, and at so many.
    pub(super) few_agents: usize,
    pub(super) many_agents: usize,
    /// Commands before memory is looked at.
    pub(super) warm_commands: usize,
    /// How long to wait for heartbeats.
    pub(super) settle: Duration,
    pub(super) storm_agents: usize,
    pub(super) rounds: usize,
    /// Agents wherever their number does not matter.
    pub(super) agents: usize,
    pub(super) in_flight: usize,
    pub(super) commands: usize,
    /// Commands in a round in which each waits for the one before.
    pub(super) commands_alone: usize,
    /// How long each rate is held, in seconds.
    pub(super) seconds: f64,
    /// The large cluster.
    pub(super) nodes: usize,
    pub(super) agents_of_node: usize,
}

impl Plan {
    /// A quarter of an hour.
    #[must_use]
    pub fn full() -> Self {
        Self {
            judged: true,
            few_agents: 1_000,
            many_agents: 19_000,
            warm_commands: 15_000,
            settle: Duration::from_secs(18),
            storm_agents: 2_000,
            rounds: 3,
            agents: 200,
            in_flight: 64,
            commands: 5_000,
            commands_alone: 1_000,
            seconds: 10.0,
            nodes: 5,
            agents_of_node: 15_000,
        }
    }

    /// As little as goes through all of it.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            judged: false,
            few_agents: 20,
            many_agents: 40,
            warm_commands: 20,
            settle: Duration::from_millis(100),
            storm_agents: 20,
            rounds: 1,
            agents: 10,
            in_flight: 8,
            commands: 40,
            commands_alone: 20,
            seconds: 0.5,
            nodes: 3,
            agents_of_node: 10,
        }
    }

    pub(super) fn commands(&self, agents: usize, subjects: &[Subject]) -> Commands {
        let Self { in_flight, commands, rounds, .. } = *self;
        Commands {
            subjects: subjects.to_vec(),
            agents,
            portals: PORTALS,
            in_flight,
            commands,
            rounds,
            in_memory: false,
        }
    }

    pub(super) fn alone(&self, subjects: &[Subject]) -> Commands {
        Commands { in_flight: 1, commands: self.commands_alone, ..self.commands(self.agents, subjects) }
    }

    /// Whether this machine can carry the largest of it: not after ten minutes of the rest.
    pub(super) fn check(&self) -> Fallible<()> {
        let many = scene(Subject::Relay, self.many_agents, PORTALS);
        let agents = self.nodes * self.agents_of_node;
        let large = Scene { redis_nodes: self.nodes, ..scene(Subject::Relay, agents, PORTALS) };
        let side_by_side = [scene(Subject::Relay, self.agents, PORTALS); Subject::ALL.len()];
        [&[many][..], &[large], &side_by_side].iter().try_for_each(|scenes| limits::check(scenes, self.in_flight))
    }
}

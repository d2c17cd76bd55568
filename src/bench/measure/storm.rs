//! All agents connect at once.

use super::{each, present, scene};
use crate::bench::Fallible;
use crate::bench::limits;
use crate::bench::report::Report;
use crate::bench::stage::Stage;
use crate::bench::subject::Subject;

/// Row: server CPU for one agent's connection, in microseconds.
pub(in crate::bench) const CONNECTION_CPU: &str = "server CPU for one connection, µs";

/// As many as a machine's cores are busy with, many times over.
const AT_ONCE: usize = 500;

/// What it costs a server when so many agents connect at the same time. The floor is its TLS handshake alone.
///
/// # Errors
/// If this machine can't carry it, or an agent can't connect.
pub async fn storm(subjects: &[Subject], agents: usize, rounds: usize) -> Fallible<Report> {
    let (subjects, notes) = present(subjects);
    for subject in &subjects {
        limits::check(&[scene(*subject, agents, 1)], 0)?;
    }
    let mut columns = vec![(0.0, 0.0, 0); subjects.len()];
    for _ in 0..rounds {
        for (subject, (cpu, seconds, refused)) in subjects.iter().zip(&mut columns) {
            let mut stage = Stage::new(scene(*subject, agents, 1)).await?;
            let before = stage.cpu()?;
            let opened = stage.connect(0..agents, AT_ONCE, *subject == Subject::Floor).await?;
            *cpu += each(stage.cpu()?.saturating_sub(before), agents * rounds);
            *seconds += opened.seconds;
            *refused += opened.refused;
        }
    }
    let title = format!("A storm: {agents} agents connect, {AT_ONCE} at the same time");
    let mut report = Report::new(title, subjects.iter().map(|subject| subject.as_str()));
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let connections = (agents * rounds) as f64;
    report.row(CONNECTION_CPU, columns.iter().map(|(cpu, ..)| Some(*cpu)));
    report.row("connections a second", columns.iter().map(|(_, seconds, _)| Some(connections / seconds)));
    report.row("asked to come again", columns.iter().map(|(.., refused)| u32::try_from(*refused).ok().map(f64::from)));
    report
        .notes
        .push("The floor is TCP and the TLS handshake alone; the others reach what is an open session.".to_owned());
    report.notes.extend(notes);
    Ok(report)
}

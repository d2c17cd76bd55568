//! All three in one process, over real TLS sockets on loopback: what a reset looks like, line by line as it happens.

mod story;
mod world;

use std::error::Error;
use std::time::Duration;

use world::World;

use crate::host::StopSignals;

/// How long anything in the demo may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the story. With `serve` the relay and the agent then keep running until a signal, for a second terminal.
/// However it ends, nothing is left running and nothing on disk.
///
/// # Errors
/// If any step does not end as it should.
pub async fn run(serve: bool) -> Result<(), Box<dyn Error>> {
    let mut signals = StopSignals::catch()?;
    let mut world = World::new().await?;
    let told = tokio::select! {
        told = tell(&mut world, serve) => told,
        () = signals.next(|| ()) => Ok(()),
    };
    told.and(world.end().await)
}

async fn tell(world: &mut World, serve: bool) -> Result<(), Box<dyn Error>> {
    story::tell(world).await?;
    if serve {
        world.show_what_to_try();
        std::future::pending::<()>().await;
    }
    Ok(())
}

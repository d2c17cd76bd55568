//! All three in one process, over real TLS sockets on loopback: what a reset looks like, line by line as it happens.

mod story;
mod world;

use std::error::Error;
use std::time::Duration;

use world::World;

/// How long anything in the demo may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the story. With `serve` the relay and the agent then keep running until a signal, for a second terminal.
///
/// # Errors
/// If any step does not end as it should.
pub async fn run(serve: bool) -> Result<(), Box<dyn Error>> {
    let mut world = World::new().await?;
    story::tell(&mut world).await?;
    if serve {
        world.serve().await?;
    }
    world.end().await
}

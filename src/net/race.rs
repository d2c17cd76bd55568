//! Attempts at several addresses of one thing, in the spirit of RFC 8305: staggered, side by side, bounded in number and
//! in time. An attempt is all that makes the thing usable, TLS and an answer included, and not TCP alone.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// How long one attempt is waited for before the next begins beside it (RFC 8305 §5). One that gets somewhere may ask for
/// more with [`Pace::allow`].
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// So many run side by side; for one more, the oldest gives way.
const AT_ONCE: usize = 8;

/// What an attempt says of how it gets on.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Mutex<Instant>>);

impl Pace {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + ATTEMPT_DELAY)))
    }

    /// It has got on, and the next step may take so long before another address is tried beside it.
    pub fn allow(&self, next_step: Duration) {
        *self.0.lock() = Instant::now() + next_step;
    }

    fn until(&self) -> Instant {
        *self.0.lock()
    }
}

/// How an attempt that brought nothing ended.
#[derive(Debug)]
pub enum Lost<E> {
    /// By itself.
    Failed(E),
    /// After so long it still had said nothing, when the time was over, it gave way, or another had won.
    Silent(Duration),
}

/// How a race ended.
#[derive(Debug)]
pub struct Raced<P, T, E> {
    /// Where it was reached, and what came of it.
    pub won: Option<(P, T)>,
    /// The places that brought nothing, in the order in which they were given up. One that was only a little slower than
    /// the winner is not among them.
    pub lost: Vec<(P, Lost<E>)>,
}

struct Running<P, A> {
    place: P,
    pace: Pace,
    since: Instant,
    attempt: Pin<Box<A>>,
}

impl<P, A> Running<P, A> {
    fn silent<E>(self) -> (P, Lost<E>) {
        (self.place, Lost::Silent(self.since.elapsed()))
    }
}

/// Attempts one place after the other, in this order, until one is reached, none is left, or `within` is over. The next
/// begins when one has failed, or when those that run have been silent for as long as their [`Pace`] allows.
pub async fn race<P, T, E, A>(places: Vec<P>, within: Duration, attempt: impl Fn(P, Pace) -> A) -> Raced<P, T, E>
where
    P: Clone,
    A: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + within;
    let mut waiting = places.into_iter();
    let (mut running, mut lost) = (Vec::<Running<P, A>>::new(), Vec::new());
    let mut begins = true;
    loop {
        if std::mem::take(&mut begins)
            && let Some(place) = waiting.next()
        {
            if running.len() >= AT_ONCE {
                lost.push(running.remove(0).silent());
            }
            let pace = Pace::begin();
            let attempt = Box::pin(attempt(place.clone(), pace.clone()));
            running.push(Running { place, pace, since: Instant::now(), attempt });
        }
        let Some(patience) = running.iter().map(|attempt| attempt.pace.until()).max() else {
            return Raced { won: None, lost };
        };
        tokio::select! {
            biased;
            (at, ended) = first(&mut running) => {
                let ended_one = running.remove(at);
                match ended {
                    Err(error) => {
                        lost.push((ended_one.place, Lost::Failed(error)));
                        begins = true;
                    }
                    Ok(value) => {
                        let now = Instant::now();
                        let slow = running.into_iter().filter(|other| other.pace.until() <= now);
                        lost.extend(slow.map(Running::silent));
                        return Raced { won: Some((ended_one.place, value)), lost };
                    }
                }
            }
            // One that has got on meanwhile has moved this moment.
            () = sleep_until(patience), if waiting.len() > 0 => {
                begins = running.iter().all(|attempt| attempt.pace.until() <= Instant::now());
            }
            () = sleep_until(deadline) => {
                lost.extend(running.into_iter().map(Running::silent));
                return Raced { won: None, lost };
            }
        }
    }
}

async fn first<P, A: Future>(running: &mut [Running<P, A>]) -> (usize, A::Output) {
    poll_fn(|context| {
        let ended = running.iter_mut().enumerate().find_map(|(at, one)| match one.attempt.as_mut().poll(context) {
            Poll::Ready(output) => Some((at, output)),
            Poll::Pending => None,
        });
        ended.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_next_begins_at_once_after_a_failure_and_beside_one_that_is_silent() {
        let began = Instant::now();
        let raced = race(vec!["refuses", "silent", "good"], LONG, |place, _| async move {
            match place {
                "refuses" => Err("no"),
                "silent" => pending().await,
                _ => Ok(place.len()),
            }
        })
        .await;
        assert_eq!(raced.won, Some(("good", 4)));
        assert!(matches!(raced.lost[..], [("refuses", Lost::Failed("no")), ("silent", Lost::Silent(_))]), "{raced:?}");
        assert!((ATTEMPT_DELAY..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn one_that_gets_on_is_waited_for_and_the_slower_one_is_not_blamed() {
        let raced = race::<_, _, (), _>(vec![1, 2], LONG, |place, pace| async move {
            if place == 1 {
                sleep(ATTEMPT_DELAY / 2).await;
                pace.allow(LONG);
                sleep(ATTEMPT_DELAY * 2).await;
            }
            Ok(())
        })
        .await;
        assert!(raced.won == Some((1, ())) && raced.lost.is_empty(), "{raced:?}");
        let raced = race::<_, _, (), _>(vec![1, 2], LONG, |place, pace| async move {
            pace.allow(if place == 1 { ATTEMPT_DELAY } else { LONG });
            sleep(if place == 1 { ATTEMPT_DELAY * 3 } else { LONG }).await;
            Ok(())
        })
        .await;
        assert!(raced.won == Some((1, ())) && raced.lost.is_empty(), "the second had time left: {raced:?}");
    }

    #[tokio::test]
    async fn many_silent_ones_end_in_time_and_each_is_named() {
        let within = ATTEMPT_DELAY * (AT_ONCE as u32 + 3);
        let silent = race::<_, (), (), _>((0..24).collect(), within, |_, _| pending()).await;
        assert!(silent.won.is_none());
        let tried: Vec<i32> = silent.lost.iter().map(|(place, _)| *place).collect();
        assert_eq!(tried, (0..tried.len() as i32).collect::<Vec<_>>());
        assert!(tried.len() > AT_ONCE, "the oldest gives way: {tried:?}");
        let nowhere = race::<i32, (), (), _>(Vec::new(), LONG, |_, _| pending()).await;
        assert!(nowhere.won.is_none() && nowhere.lost.is_empty());
    }
}

//! One load that several readers wait for, from threads and from futures of any executor.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A loader's own error, shared by all who waited.
pub type Failure = Arc<dyn StdError + Send + Sync>;

/// What a reader who waited for another's load gets.
#[derive(Clone, Debug)]
pub enum Joined<V> {
    /// The value.
    Value(V),
    /// The source has no such key.
    Absent,
    /// The load failed; the loader's own error.
    Failed(Failure),
    /// The leader gave up, or the load took longer than the bound: start over.
    Again,
    /// The time limit of the wait ran out.
    TimedOut,
}

/// A load under way.
pub struct Flight<V> {
    id: u64,
    state: Mutex<State<V>>,
    settled: Condvar,
}

enum State<V> {
    Waiting(Vec<Waker>),
    Settled(Joined<V>),
}

impl<V: Clone> Flight<V> {
    pub(super) fn new(id: u64) -> Self {
        Flight { id, state: Mutex::new(State::Waiting(Vec::new())), settled: Condvar::new() }
    }

    /// The load's number, unique per process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Wakes all who wait. The first outcome stays.
    pub(super) fn settle(&self, outcome: Joined<V>) {
        let wakers = {
            let mut state = self.state.lock();
            match &mut *state {
                State::Settled(_) => return,
                State::Waiting(wakers) => {
                    let wakers = std::mem::take(wakers);
                    *state = State::Settled(outcome);
                    wakers
                }
            }
        };
        self.settled.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Blocks until the load ends; at most `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> Joined<V> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut state = self.state.lock();
        loop {
            if let State::Settled(outcome) = &*state {
                return outcome.clone();
            }
            match deadline {
                Some(deadline) => {
                    if self.settled.wait_until(&mut state, deadline).timed_out() {
                        return match &*state {
                            State::Settled(outcome) => outcome.clone(),
                            State::Waiting(_) => Joined::TimedOut,
                        };
                    }
                }
                None => self.settled.wait(&mut state),
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Joined<V>> {
        match &mut *self.state.lock() {
            State::Settled(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting(wakers) => {
                if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// Waits for another reader's load: [`Join::wait`] on a thread, or `.await`.
pub struct Join<V> {
    pub(crate) flight: Arc<Flight<V>>,
}

impl<V: Clone> Join<V> {
    /// The load's number, unique per process; [`Load::id`](crate::Load::id) of the one who leads it.
    pub fn load_id(&self) -> u64 {
        self.flight.id()
    }

    /// Blocks the thread until the load ends, or until `timeout` has passed ([`Joined::TimedOut`]).
    pub fn wait(&self, timeout: Option<Duration>) -> Joined<V> {
        self.flight.wait(timeout)
    }
}

impl<V: Clone> Future for Join<V> {
    type Output = Joined<V>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Joined<V>> {
        self.flight.poll(cx)
    }
}

//! `get_or_load` with loaders that the script controls: the blocking form at once, the asynchronous one in the background.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{json, Value};
use tokio::sync::oneshot;
use unstale::{Cache, SetOptions};

use crate::request::{Failure, Outcome, Request};

/// The error that the script's loaders fail with; it must come back as it is.
#[derive(Debug)]
struct LoaderFailed(String);

impl std::fmt::Display for LoaderFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoaderFailed {}

type Loaded = Result<Option<String>, unstale::Error>;

/// What a call says of itself: `value`, `failed` with the loader's own error, or an error answer.
fn describe(called: bool, loaded: Option<&Loaded>) -> Result<Value, Failure> {
    let (value, failed) = match loaded {
        None => (None, None),
        Some(Ok(value)) => (value.as_deref(), None),
        Some(Err(error)) => match error.load_source().and_then(|source| source.downcast_ref::<LoaderFailed>()) {
            Some(own) => (None, Some(own.0.as_str())),
            None => return Err(Failure::Api(error.clone())),
        },
    };
    Ok(json!({ "called": called, "done": loaded.is_some(), "value": value, "failed": failed }))
}

/// The blocking form.
pub fn blocking(cache: &Cache<String>, r: &Request, options: &SetOptions) -> Result<Value, Failure> {
    let mut called = false;
    let outcome = r.outcome()?;
    let loaded = unstale::blocking::get_or_load(cache, r.text("key")?, options, || {
        called = true;
        outcome.map_err(LoaderFailed)
    });
    describe(called, Some(&loaded))
}

struct Running {
    called: Arc<AtomicBool>,
    loaded: Arc<Mutex<Option<Loaded>>>,
    finish: Option<oneshot::Sender<Outcome>>,
}

/// Loads in the background, by their id.
pub struct Loads {
    runtime: tokio::runtime::Runtime,
    running: HashMap<String, Running>,
}

impl Default for Loads {
    fn default() -> Loads {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime starts");
        Loads { runtime, running: HashMap::new() }
    }
}

impl Loads {
    pub fn start(&mut self, id: &str, cache: Cache<String>, key: &str, options: SetOptions) {
        let called = Arc::new(AtomicBool::new(false));
        let loaded: Arc<Mutex<Option<Loaded>>> = Arc::default();
        let (finish, finished) = oneshot::channel::<Outcome>();
        let (key, was_called, result) = (key.to_owned(), called.clone(), loaded.clone());
        self.runtime.spawn(async move {
            let load = cache.get_or_load_with(&key, &options, || async move {
                was_called.store(true, Ordering::SeqCst);
                finished.await.expect("the driver keeps the other end").map_err(LoaderFailed)
            });
            let value = load.await;
            *result.lock().unwrap() = Some(value);
        });
        self.running.insert(id.to_owned(), Running { called, loaded, finish: Some(finish) });
    }

    pub fn state(&self, id: &str) -> Result<Value, Failure> {
        let running = self.running.get(id).ok_or_else(|| Failure::driver("no such load"))?;
        // `loaded` first: a call that is seen as done has been seen to call its loader, too.
        let loaded = running.loaded.lock().unwrap();
        describe(running.called.load(Ordering::SeqCst), loaded.as_ref())
    }

    pub fn finish(&mut self, id: &str, outcome: Outcome) -> Result<(), Failure> {
        let running = self.running.get_mut(id).ok_or_else(|| Failure::driver("no such load"))?;
        let finish = running.finish.take().ok_or_else(|| Failure::driver("finished twice"))?;
        // A loader that was never called is gone by now, and its end with it.
        let _ = finish.send(outcome);
        Ok(())
    }
}

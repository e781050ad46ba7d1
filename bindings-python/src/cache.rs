//! `unstale.Cache`'s native half, but for the hit path, which is in `hot.rs`.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use serde_json::Value;
use unstale::{Begin, Cache, CacheConfig, Dialect, ErrorKind, Joined, SetOptions};

use crate::client::{to_json, ClientHandle};
use crate::convert::{from_json, options, set_options, text, texts, version};
use crate::error::{kind, Failure, Raise};
use crate::handles::{no_pickle, Lease, Load, Receipt, Subscription};
use crate::held::Held;
use crate::post::{post, tidily, Item};
use crate::waiting::Waiting;

/// What `_begin` says first. The same numbers are in `_cache.py`.
const SERVED: u8 = 0;
const LEAD: u8 = 1;
const JOIN: u8 = 2;

/// What `Cache` inherits besides the hit path.
#[pyclass(subclass, frozen, module = "unstale._native")]
pub struct CacheBase {
    cache: Cache<Held>,
}

impl CacheBase {
    /// The core's.
    #[inline]
    pub fn core(&self) -> &Cache<Held> {
        &self.cache
    }

    /// What the core says of a read-through, as a pair for Python.
    pub fn begun<'py>(&self, py: Python<'py>, begin: Begin<Held>) -> PyResult<(u8, Bound<'py, PyAny>)> {
        Ok(match begin {
            Begin::Hit(value) => (SERVED, value.to_py(py).into_bound(py)),
            Begin::Absent => (SERVED, py.None().into_bound(py)),
            Begin::Lead(load) => (LEAD, Bound::new(py, Load::new(load))?.into_any()),
            Begin::Join(pending) => {
                let id = pending.load_id();
                (JOIN, (id, Waiting::new(pending, joined)).into_pyobject(py)?.into_any())
            }
        })
    }
}

/// Entries that may be read through with the GIL held: some milliseconds, about as long as getting it back can take.
const SHORT_SCAN: usize = 20_000;

/// `(done, value)` of a load that someone else led; not done: start over.
fn joined(py: Python<'_>, outcome: Joined<Held>) -> PyResult<Py<PyAny>> {
    let (done, value) = match outcome {
        Joined::Value(value) => (true, value.to_py(py)),
        Joined::Absent => (true, py.None()),
        Joined::Again => (false, py.None()),
        Joined::TimedOut => {
            return Err(kind(py, ErrorKind::Timeout, "another caller's load of this key took longer than load_timeout"))
        }
        Joined::Failed(failure) => {
            return Err(match failure.downcast_ref::<Failure>() {
                Some(own) => own.raised(py),
                None => kind(py, ErrorKind::Load, format!("the loader failed: {failure}")),
            })
        }
    };
    Ok((done, value).into_pyobject(py)?.into_any().unbind())
}

/// Of too many events one remains, which says that anything may be gone.
fn everything(mut event: Value) -> Value {
    if let Value::Object(event) = &mut event {
        for several in ["keys", "tags", "prefixes"] {
            event.insert(several.into(), Value::Array(Vec::new()));
        }
        event.insert("all".into(), Value::Bool(true));
    }
    event
}

/// A value to keep: anything but `None`, which is how "not found" is written.
fn value_to_keep<'py>(value: Bound<'py, PyAny>) -> PyResult<Held> {
    if value.is_none() {
        return Err(kind(
            value.py(),
            ErrorKind::InvalidArgument,
            "None means \"not found\" and cannot be stored; use evict, or negative_ttl with a loader that returns None",
        ));
    }
    Ok(Held::new(value))
}

#[pymethods]
impl CacheBase {
    #[new]
    fn new(
        client: &Bound<'_, ClientHandle>,
        namespace: &Bound<'_, PyAny>,
        given: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let py = client.py();
        let config = CacheConfig::parse(options(given)?, Dialect::JSON).raise(py)?;
        let cache = client.get().core().cache(text(namespace, "namespace")?, config).raise(py)?;
        Ok(CacheBase { cache })
    }

    /// The namespace; `""` for none.
    #[getter]
    fn namespace(&self) -> &str {
        self.cache.namespace()
    }

    /// Stores a value that is current now, or was read under `lease`; here only.
    ///
    /// False: refused, since it was invalidated under the lease, or a higher version is known. None cannot be stored.
    #[pyo3(signature = (key, value, *, ttl=None, tags=None, depends_on=None, version=None, lease=None))]
    #[allow(clippy::too_many_arguments)]
    fn set<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
        ttl: Option<&Bound<'py, PyAny>>,
        tags: Option<&Bound<'py, PyAny>>,
        depends_on: Option<&Bound<'py, PyAny>>,
        version: Option<&Bound<'py, PyAny>>,
        lease: Option<&Bound<'py, Lease>>,
    ) -> PyResult<bool> {
        let options = set_options(ttl, tags, depends_on, version, lease)?;
        let (key, value) = (text(key, "key")?, value_to_keep(value)?);
        tidily(py, || self.cache.set_with(key, value, &options)).raise(py)
    }

    /// Stores the new value here and invalidates the old one everywhere else, after the source was written.
    ///
    /// Needs a lease taken before the write, or a version. receipt.stored is False if it became an invalidation only.
    #[pyo3(signature = (key, value, *, lease=None, version=None, ttl=None, tags=None, depends_on=None))]
    #[allow(clippy::too_many_arguments)]
    fn update<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
        lease: Option<&Bound<'py, Lease>>,
        version: Option<&Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
        tags: Option<&Bound<'py, PyAny>>,
        depends_on: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Receipt> {
        let options = set_options(ttl, tags, depends_on, version, lease)?;
        let (key, value) = (text(key, "key")?, value_to_keep(value)?);
        tidily(py, || self.cache.update(key, value, &options)).raise(py).map(Receipt::new)
    }

    /// Notes where the invalidation history of key stands, before its source is read.
    fn lease(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Lease> {
        self.cache.lease(text(key, "key")?).raise(py).map(Lease::new)
    }

    /// Removes key here at once and everywhere else as soon as the network allows. Never blocks.
    ///
    /// With version: entries of that version or a higher one stay.
    #[pyo3(signature = (key, *, version=None))]
    fn invalidate(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        version: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Receipt> {
        let key = text(key, "key")?;
        match version.map(crate::convert::version).transpose()? {
            None => done(py, || self.cache.invalidate(key)),
            Some(version) => done(py, || self.cache.invalidate_version(key, version)),
        }
    }

    /// Invalidates several keys at once; a mapping gives versions. All or none, if one is malformed.
    fn invalidate_many(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Receipt> {
        let mut operations: Vec<(String, Option<u64>)> = Vec::new();
        if let (Ok(map), false) = (keys.cast::<PyMapping>(), keys.is_instance_of::<PyString>()) {
            for pair in map.items()?.iter() {
                let (key, of) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                let of = if of.is_none() { None } else { Some(version(&of)?) };
                operations.push((text(&key, "each of keys")?.to_owned(), of));
            }
        } else {
            operations.extend(texts(keys, "keys")?.into_iter().map(|key| (key, None)));
        }
        done(py, || self.cache.invalidate_many(operations.iter().map(|(key, of)| (key.as_str(), *of))))
    }

    /// Invalidates what carries one of tags.
    fn invalidate_tags(&self, py: Python<'_>, tags: &Bound<'_, PyAny>) -> PyResult<Receipt> {
        let tags = texts(tags, "tags")?;
        done(py, || self.cache.invalidate_tags(tags.iter().map(String::as_str)))
    }

    /// Invalidates every key that begins with prefix.
    fn invalidate_prefix(&self, py: Python<'_>, prefix: &Bound<'_, PyAny>) -> PyResult<Receipt> {
        let prefix = text(prefix, "prefix")?;
        if self.cache.len() <= SHORT_SCAN {
            return done(py, || self.cache.invalidate_prefix(prefix));
        }
        done(py, || py.detach(|| self.cache.invalidate_prefix(prefix)))
    }

    /// Invalidates everything, in constant time.
    fn invalidate_all(&self, py: Python<'_>) -> PyResult<Receipt> {
        done(py, || self.cache.invalidate_all())
    }

    /// Removes key here only. Whether it was held.
    fn evict(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let key = text(key, "key")?;
        tidily(py, || self.cache.evict(key)).raise(py)
    }

    /// Removes everything here only.
    fn clear_local(&self, py: Python<'_>) -> PyResult<()> {
        tidily(py, || self.cache.clear_local()).raise(py)
    }

    /// Counters since the cache was opened: hits, misses, loads, entries and so on.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_json(py, &to_json(&self.cache.stats()))
    }

    /// Has events left in the mailbox for the listener of this number.
    fn _on_invalidated(&self, listener: u64) -> Subscription {
        Subscription::new(self.cache.on_invalidated(move |event| {
            post().leave(Item::Event { listener, payload: to_json(event), collapse: everything });
        }))
    }

    /// Starts a read-through: `(SERVED, value)`, `(LEAD, load)` or `(JOIN, (load_id, waiting))`.
    fn _begin<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        ttl: Option<&Bound<'py, PyAny>>,
        tags: Option<&Bound<'py, PyAny>>,
        depends_on: Option<&Bound<'py, PyAny>>,
        version: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(u8, Bound<'py, PyAny>)> {
        let options: SetOptions = set_options(ttl, tags, depends_on, version, None)?;
        let begin = self.cache.begin_with(text(key, "key")?, &options).raise(py)?;
        self.begun(py, begin)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(no_pickle("Cache", "open it with client.cache(namespace) where it is used"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.cache.each_value(|value| {
            if result.is_ok() {
                result = value.traverse(&visit);
            }
        });
        result
    }

    fn __clear__(&self) {
        // The collector calls with the GIL held, so this only notes it.
        Python::attach(|py| tidily(py, || self.cache.discard()));
    }
}

fn done(py: Python<'_>, invalidate: impl FnOnce() -> unstale::Result<unstale::Receipt>) -> PyResult<Receipt> {
    tidily(py, invalidate).raise(py).map(Receipt::new)
}

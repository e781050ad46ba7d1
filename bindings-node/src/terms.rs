//! What a value is stored with, from the object that `lib/options.js` checked for its shape.

use std::cell::RefCell;

use napi::bindgen_prelude::{External, FromNapiRef, FromNapiValue, JsValue, Object, Unknown};
use unstale::cache::{Lease, SetOptions};
use unstale::{Error, ErrorKind, Result};

use crate::client::millis;
use crate::text::Text;

/// A lease in JavaScript's hands; none once it was released.
pub struct Permission(RefCell<Option<Lease>>);

impl Permission {
    /// Not released.
    pub fn new(lease: Lease) -> Self {
        Permission(RefCell::new(Some(lease)))
    }

    /// Gives the lease back. It would also be when JavaScript forgets it.
    pub fn release(&self) {
        let lease = self.0.take();
        drop(lease);
    }
}

/// Reads the options; none were given: none.
pub fn read(object: Option<Object<'_>>) -> Result<SetOptions> {
    let mut terms = SetOptions::new();
    let Some(object) = object else { return Ok(terms) };
    if let Some(ttl) = field::<f64>(&object, "ttl")? {
        terms.ttl = Some(millis("ttl", ttl)?);
    }
    terms.tags = texts(field(&object, "tags")?, "tags")?;
    terms.depends_on = texts(field(&object, "dependsOn")?, "dependsOn")?;
    terms.version = field::<f64>(&object, "version")?.map(version).transpose()?;
    if let Some(value) = field::<Unknown<'_>>(&object, "lease")? {
        // SAFETY: the value is one of the environment of the call that we are in. Its type is checked.
        let permission = unsafe { External::<Permission>::from_napi_ref(value.value().env, value.raw()) };
        let lease = permission.map_err(|e| unreadable("lease", &e))?.0.borrow().clone();
        terms.lease = Some(lease.ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "`lease` was released; take another with `cache.lease(key)`")
        })?);
    }
    Ok(terms)
}

/// A version from JavaScript's number; the core checks its upper limit.
pub fn version(value: f64) -> Result<u64> {
    if value >= 0.0 && value.fract() == 0.0 {
        return Ok(value as u64);
    }
    let message = format!("`version` must be an integer from 0 to 2^53 - 1, not {value}");
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

fn field<T: FromNapiValue>(object: &Object<'_>, name: &str) -> Result<Option<T>> {
    object.get::<Option<T>>(name).map(Option::flatten).map_err(|e| unreadable(name, &e))
}

fn unreadable(name: &str, error: &napi::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("`{name}` cannot be used: {}", error.reason))
}

fn texts(list: Option<Vec<Text>>, name: &str) -> Result<Vec<String>> {
    list.unwrap_or_default().into_iter().map(|text| text.get(name)).collect()
}

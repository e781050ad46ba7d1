//! One command's fields, and what a command may fail with.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{json, Map, Value};
use unstale::{Lease, SetOptions};

/// What a loader is told to do.
pub type Outcome = Result<Option<String>, String>;

/// A command.
pub struct Request {
    pub command: String,
    fields: Map<String, Value>,
}

/// An error answer: the library's own, or a mistake in the driver.
pub enum Failure {
    Api(unstale::Error),
    Driver(String),
}

impl Failure {
    pub fn driver(message: impl Into<String>) -> Failure {
        Failure::Driver(message.into())
    }

    pub fn to_json(&self) -> Value {
        match self {
            Failure::Api(error) => {
                json!({ "kind": error.kind().name(), "code": crate::code(error.kind()), "message": error.message() })
            }
            Failure::Driver(message) => json!({ "kind": "Driver", "code": -1, "message": message }),
        }
    }
}

impl From<unstale::Error> for Failure {
    fn from(error: unstale::Error) -> Failure {
        Failure::Api(error)
    }
}

impl Request {
    pub fn parse(line: &str) -> Result<Request, Failure> {
        let fields: Map<String, Value> = serde_json::from_str(line).map_err(|e| Failure::driver(e.to_string()))?;
        let mut request = Request { command: String::new(), fields };
        request.command = request.text("cmd")?.to_owned();
        Ok(request)
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Result<&str, Failure> {
        self.field(name).and_then(Value::as_str).ok_or_else(|| Failure::driver(format!("{name} must be a string")))
    }

    /// Absent is empty.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Failure> {
        let value = self.field(name).cloned().unwrap_or_else(|| json!([]));
        serde_json::from_value(value).map_err(|e| Failure::driver(format!("{name}: {e}")))
    }

    pub fn object(&self, name: &str) -> Map<String, Value> {
        self.field(name).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    pub fn duration(&self, name: &str) -> Result<Duration, Failure> {
        let ms = self.field(name).and_then(Value::as_u64);
        ms.map(Duration::from_millis).ok_or_else(|| Failure::driver(format!("{name} must be milliseconds")))
    }

    pub fn version(&self) -> Result<Option<u64>, Failure> {
        let version = self.field("version").cloned().unwrap_or_default();
        serde_json::from_value(version).map_err(|e| Failure::driver(format!("version: {e}")))
    }

    pub fn keys(&self) -> Result<Vec<(String, Option<u64>)>, Failure> {
        let keys = self.field("keys").cloned().unwrap_or_default();
        serde_json::from_value(keys).map_err(|e| Failure::driver(format!("keys: {e}")))
    }

    /// `value` (absent: not found) or `fail`.
    pub fn outcome(&self) -> Result<Outcome, Failure> {
        if self.field("fail").is_some() {
            return Ok(Err(self.text("fail")?.to_owned()));
        }
        Ok(Ok(self.field("value").map(|_| self.text("value").map(str::to_owned)).transpose()?))
    }

    pub fn options(&self, leases: &HashMap<String, Lease>) -> Result<SetOptions, Failure> {
        let mut options = SetOptions::default();
        options.ttl = self.field("ttl_ms").map(|_| self.duration("ttl_ms")).transpose()?;
        options.tags = self.texts("tags")?;
        options.depends_on = self.texts("depends_on")?;
        options.version = self.version()?;
        if self.field("lease").is_some() {
            let lease = leases.get(self.text("lease")?).ok_or_else(|| Failure::driver("no such lease"))?;
            options.lease = Some(lease.clone());
        }
        Ok(options)
    }
}

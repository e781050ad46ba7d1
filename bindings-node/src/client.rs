//! The functions of `lib/client.js`.

use std::cell::RefCell;
use std::time::Duration;

use napi::Env;
use napi_derive::napi;
use serde_json::{Map, Value};
use unstale::client::{Subscription, DEFAULT_CLOSE_TIMEOUT};
use unstale::{Client, ClientConfig, Dialect, Error, ErrorKind, Result};

use crate::mailbox::{Answer, Event};
use crate::runtime::Runtime;
use crate::text::Text;

/// A client and who listens to it.
pub struct Connection {
    /// The core's client.
    pub client: Client,
    status: RefCell<Option<Subscription>>,
}

impl Connection {
    /// Without listeners.
    pub fn new(client: Client) -> Self {
        Connection { client, status: RefCell::new(None) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(subscription) = self.status.take() {
            subscription.cancel();
        }
    }
}

/// The options in a JSON object that `lib/options.js` wrote.
pub fn options(json: Text) -> Result<Map<String, Value>> {
    let json = json.get("options")?;
    serde_json::from_str(&json).map_err(|e| Error::new(ErrorKind::Config, format!("options cannot be read: {e}")))
}

/// A duration argument in milliseconds.
pub fn millis(name: &str, value: f64) -> Result<Duration> {
    Dialect::NODE.duration(name, value)
}

/// Connects and answers `call` with the client's number.
#[napi]
pub fn client_connect(env: &Env, call: u32, url: Option<Text>, json: Text) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let url = url.map(|url| url.get("url")).transpose()?;
        let config = ClientConfig::parse(url.as_deref(), options(json)?, Dialect::NODE)?;
        runtime.answer(call, async { Ok(Answer::Connected(Box::new(Client::connect(config).await?))) })
    })
}

/// The state as JSON.
#[napi]
pub fn client_status(env: &Env, client: u32) -> napi::Result<String> {
    Runtime::enter(env, |runtime| json(&runtime.client(client)?.client.status()))
}

/// Whether changes of the state are posted.
#[napi]
pub fn client_listen(env: &Env, client: u32, wanted: bool) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let connection = runtime.client(client)?;
        let mailbox = runtime.mailbox.clone();
        let subscription = wanted.then(|| {
            connection.client.on_status(move |status| {
                if let Ok(text) = json(status) {
                    mailbox.post(Event::Status(client, text));
                }
            })
        });
        if let Some(earlier) = connection.status.replace(subscription) {
            earlier.cancel();
        }
        Ok(())
    })
}

/// Answers `call` with whether the invalidation that `token` names was applied here within `timeout` ms.
#[napi]
pub fn client_wait_for(env: &Env, client: u32, call: u32, token: Text, timeout: f64) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let applied = runtime.client(client)?.client.wait_for(&token.get("token")?, millis("ms", timeout)?);
        runtime.answer(call, async { Ok(Answer::Bool(applied.await?)) })
    })
}

/// Closes at once; answers `call` with the number of messages left unsent, within `timeout` ms.
#[napi]
pub fn client_close(env: &Env, client: u32, call: u32, timeout: Option<f64>) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let timeout = timeout.map_or(Ok(DEFAULT_CLOSE_TIMEOUT), |ms| millis("ms", ms))?;
        let closed = runtime.client(client)?.client.close(timeout);
        runtime.answer(call, async { Ok(Answer::Count(closed.await?)) })
    })
}

/// JavaScript has forgotten this client.
#[napi]
pub fn client_forget(env: &Env, client: u32) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        runtime.drop_client(client);
        Ok(())
    })
}

/// What the core serialises.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}

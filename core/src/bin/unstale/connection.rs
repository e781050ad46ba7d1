//! How a command reaches the broker: the arguments that `invalidate`, `watch` and `doctor` share.

use std::path::PathBuf;

use serde_json::{Map, Value};
use unstale::{ClientConfig, Dialect};

use crate::failure::Failure;

/// Where the broker is and how to get in.
#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The broker: mqtt://, mqtts://, ws://, wss:// or awsiot://, with host and port. Default: the variable UNSTALE_URL.
    #[arg(short, long, value_name = "URL")]
    url: Option<String>,

    /// Root of the topics, as the services have it [default: cache/invalidate].
    #[arg(short, long)]
    topic: Option<String>,

    /// The broker's user. The password comes from UNSTALE_PASSWORD, where other users of this machine cannot see it;
    /// so do the signing keys, from UNSTALE_SIGNING_KEY.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,

    /// PEM file with the authorities to trust, for mqtts://, wss:// and awsiot://.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// PEM file with this client's certificate; needs --key-file.
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,

    /// PEM file with this client's private key; needs --cert-file.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Any other option of the client, such as `connect_timeout=2s` or `mqtt_version=3.1.1`. May be repeated.
    #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = name_and_value)]
    options: Vec<(String, String)>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name == "url" {
        return Err("give the URL with --url".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl Connection {
    /// The client's configuration, by the library's own parser and precedence.
    ///
    /// # Errors
    /// Usage: no broker named, or one that no other process could hear; what the parser refuses.
    pub fn config(&self) -> Result<ClientConfig, Failure> {
        self.config_for(None)
    }

    /// The same for a command that takes the URL as an argument of its own.
    ///
    /// # Errors
    /// As [`Connection::config`].
    pub fn config_for(&self, url: Option<&str>) -> Result<ClientConfig, Failure> {
        let url = match (url.map(str::to_owned).or_else(|| self.url.clone()), std::env::var("UNSTALE_URL")) {
            (Some(url), _) => url,
            (None, Ok(url)) if !url.is_empty() => url,
            _ => {
                return Err(Failure::Usage(
                    "no broker: give --url, for example --url mqtt://localhost:1883, or set UNSTALE_URL".into(),
                ))
            }
        };
        if url.starts_with("memory:") {
            return Err(Failure::Usage(format!(
                "{url} lives within one process, so no other would hear this one; give a broker's URL, for example \
                 mqtt://localhost:1883"
            )));
        }
        let mut options = Map::new();
        let mut tls = Map::new();
        for (name, value) in [("topic", &self.topic), ("username", &self.username)] {
            if let Some(value) = value {
                options.insert(name.into(), Value::String(value.clone()));
            }
        }
        for (name, value) in [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)]
        {
            if let Some(path) = value {
                let text = path.to_str().ok_or_else(|| Failure::Usage(format!("{path:?} is not UTF-8")))?;
                tls.insert(name.into(), Value::String(text.into()));
            }
        }
        if !tls.is_empty() {
            options.insert("tls".into(), Value::Object(tls));
        }
        Ok(ClientConfig::parse(Some(&self.with_options(url)), options, Dialect::JSON)?)
    }

    /// `-o` travels in the URL's query: there the library's parser reads text as whatever the option's type is.
    fn with_options(&self, url: String) -> String {
        if self.options.is_empty() {
            return url;
        }
        match url::Url::parse(&url) {
            Ok(mut parsed) => {
                parsed.query_pairs_mut().extend_pairs(&self.options);
                parsed.into()
            }
            // Left to the library's parser, whose message is the one that every language shows.
            Err(_) => url,
        }
    }
}

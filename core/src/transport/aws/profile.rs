//! The shared `credentials` and `config` files ("AWS SDKs and Tools Reference Guide", "Shared config and credentials files").

use std::collections::HashMap;
use std::path::PathBuf;

use super::credentials::{failed, Credentials, Sources};
use super::process;
use crate::error::Result;

type Settings = HashMap<String, String>;

/// The profile's credentials; none if there is no such profile and nobody named it.
pub(super) fn credentials(sources: &Sources<'_>) -> Result<Option<Credentials>> {
    let name = name(sources);
    let settings = settings(sources, &name);
    let get = |key: &str| settings.get(key).cloned();
    if let (Some(access_key_id), Some(secret_access_key)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
        return Ok(Some(Credentials { access_key_id, secret_access_key, session_token: get("aws_session_token") }));
    }
    if let Some(command) = settings.get("credential_process") {
        return process::run(command, sources.deadline).map(Some);
    }
    if let Some(key) = ["sso_session", "sso_start_url", "role_arn", "web_identity_token_file"]
        .iter()
        .find(|key| settings.contains_key(**key))
    {
        return Err(failed(format_args!(
            "the profile {name:?} uses `{key}`, which this library does not speak; give it a profile with \
             `credential_process = aws configure export-credentials --profile {name} --format process`"
        )));
    }
    let named = sources.options.profile.is_some() || sources.set("AWS_PROFILE").is_some();
    if named {
        let (credentials, config) = (path(sources, true), path(sources, false));
        let show = |path: Option<PathBuf>| path.map_or("(no home folder)".into(), |path| path.display().to_string());
        return Err(failed(format_args!(
            "the profile {name:?} is not in {} or {}, or has no keys there; check its name, or run `aws configure --profile {name}`",
            show(credentials),
            show(config)
        )));
    }
    Ok(None)
}

/// The profile's region.
pub(super) fn region(sources: &Sources<'_>) -> Option<String> {
    settings(sources, &name(sources)).remove("region").filter(|region| !region.is_empty())
}

fn name(sources: &Sources<'_>) -> String {
    let named = sources.options.profile.clone().or_else(|| sources.set("AWS_PROFILE"));
    named.unwrap_or_else(|| "default".into())
}

/// What both files say of the profile; the credentials file first.
fn settings(sources: &Sources<'_>, name: &str) -> Settings {
    let read = |credentials: bool| path(sources, credentials).and_then(|path| std::fs::read_to_string(path).ok());
    let mut settings = read(false).map_or_else(Settings::new, |text| section(&text, name, true));
    settings.extend(read(true).map_or_else(Settings::new, |text| section(&text, name, false)));
    settings
}

fn path(sources: &Sources<'_>, credentials: bool) -> Option<PathBuf> {
    let (variable, file) =
        if credentials { ("AWS_SHARED_CREDENTIALS_FILE", "credentials") } else { ("AWS_CONFIG_FILE", "config") };
    let home = || sources.set("HOME").or_else(|| sources.set("USERPROFILE"));
    sources.set(variable).map(PathBuf::from).or_else(|| Some(PathBuf::from(home()?).join(".aws").join(file)))
}

/// The settings of one section: `[name]`, in the config file `[profile name]` but for `[default]`.
fn section(text: &str, name: &str, is_config: bool) -> Settings {
    let mut settings = Settings::new();
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let title = title.trim();
            let profile = title.strip_prefix("profile").map(str::trim_start).filter(|_| is_config);
            inside = profile.map_or(title == name && (!is_config || name == "default"), |profile| profile == name);
        } else if let (true, false, Some((key, value))) =
            (inside, line.starts_with([' ', '\t']), trimmed.split_once('='))
        {
            let value = value.split(" #").next().unwrap_or_default().split(" ;").next().unwrap_or_default();
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AwsConfig;
    use std::time::{Duration, Instant};

    /// Files of its own for each test.
    fn files(test: &str, credentials: &str, config: &str) -> [(String, String); 2] {
        let folder = std::env::temp_dir().join(format!("unstale-aws-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        [("AWS_SHARED_CREDENTIALS_FILE", "credentials", credentials), ("AWS_CONFIG_FILE", "config", config)].map(
            |(variable, name, text)| {
                let path = folder.join(name);
                std::fs::write(&path, text).unwrap();
                (variable.to_owned(), path.to_str().unwrap().to_owned())
            },
        )
    }

    fn look<T>(vars: &[(String, String)], profile: Option<&str>, f: impl FnOnce(&Sources<'_>) -> T) -> T {
        look_for(Duration::from_secs(5), vars, profile, f)
    }

    fn look_for<T>(
        limit: Duration,
        vars: &[(String, String)],
        profile: Option<&str>,
        f: impl FnOnce(&Sources<'_>) -> T,
    ) -> T {
        let options = AwsConfig { profile: profile.map(str::to_owned), ..AwsConfig::default() };
        let variable = |name: &str| vars.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        f(&Sources { options: &options, variable: &variable, deadline: Instant::now() + limit })
    }

    #[test]
    fn a_profile_is_read_from_both_files() {
        let vars = files(
            "both",
            "[default]\naws_access_key_id = D\naws_secret_access_key = DS # mine\n\n[work]\naws_access_key_id=W\naws_secret_access_key=W=S/+\naws_session_token = T\n",
            "# comment\n[default]\nregion = eu-west-1\n[profile work]\nregion = us-east-2\ns3 =\n  region = nested\n[work]\nregion = wrong\n",
        );
        let key = |profile| look(&vars, profile, |s| credentials(s).unwrap().unwrap());
        let found = key(None);
        assert_eq!((found.access_key_id.as_str(), found.secret_access_key.as_str()), ("D", "DS"));
        let found = key(Some("work"));
        assert_eq!((found.secret_access_key.as_str(), found.session_token.as_deref()), ("W=S/+", Some("T")));
        assert_eq!(look(&vars, Some("work"), region).as_deref(), Some("us-east-2"));
        assert_eq!(look(&vars, None, region).as_deref(), Some("eu-west-1"));
        let error = look(&vars, Some("nope"), |s| credentials(s).unwrap_err());
        assert!(error.message().contains("\"nope\""), "{error}");
    }

    #[test]
    fn a_program_gives_credentials_or_says_why_not() {
        let vars = files(
            "process",
            "",
            r#"[profile good]
credential_process = echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T"}'
[profile bad]
credential_process = exit 3
[profile odd]
credential_process = echo hello
[profile sso]
sso_session = x
"#,
        );
        let found = look(&vars, Some("good"), |s| credentials(s).unwrap().unwrap());
        assert_eq!((found.access_key_id.as_str(), found.session_token.as_deref()), ("A", Some("T")));
        for (profile, names) in [("bad", "exit status: 3"), ("odd", "AccessKeyId"), ("sso", "export-credentials")] {
            let error = look(&vars, Some(profile), |s| credentials(s).unwrap_err());
            assert!(error.message().contains(names), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_does_not_end_in_time_is_ended_with_all_that_it_started() {
        let notes = std::env::temp_dir().join(format!("unstale-aws-{}-pids", std::process::id()));
        let note = notes.display();
        let config = format!(
            "[profile deaf]\ncredential_process = exec >&-; sleep 31 & echo $! > {note}; wait\n\
             [profile heir]\ncredential_process = sleep 31 & echo $! > {note}; wait\n\
             [profile left]\ncredential_process = sleep 31 & echo $! > {note}\n"
        );
        let vars = files("hanging", "", &config);
        for profile in ["deaf", "heir", "left"] {
            let start = Instant::now();
            let error = look_for(Duration::from_millis(700), &vars, Some(profile), |s| credentials(s).unwrap_err());
            assert!(error.message().contains("in time"), "{profile}: {error}");
            assert!(start.elapsed() < Duration::from_secs(15), "{profile}: {:?}", start.elapsed());
            let pid = std::fs::read_to_string(&notes).unwrap();
            // What has ended and was not waited for yet has no words left.
            let runs = || std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|words| !words.is_empty());
            let deadline = Instant::now() + Duration::from_secs(10);
            while runs() {
                assert!(Instant::now() < deadline, "{profile}: what the program started still runs");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn without_files_and_names_there_is_no_profile() {
        assert!(look(&[("HOME".into(), "/nowhere".into())], None, |s| credentials(s).unwrap().is_none()));
        assert!(look(&[], None, |s| credentials(s).unwrap().is_none()));
    }

    #[test]
    fn the_credentials_file_comes_first() {
        let keys = |name| format!("aws_access_key_id = {name}\naws_secret_access_key = {name}\n");
        let vars = files(
            "first",
            &format!("[default]\n{}", keys("CREDENTIALS")),
            &format!("[default]\n{}aws_session_token = T\nregion = r\n", keys("CONFIG")),
        );
        let found = look(&vars, None, |s| credentials(s).unwrap().unwrap());
        assert_eq!((found.access_key_id.as_str(), found.secret_access_key.as_str()), ("CREDENTIALS", "CREDENTIALS"));
        assert_eq!(look(&vars, None, region).as_deref(), Some("r"));
    }
}

//! A presigned URL for MQTT over WebSockets: Signature Version 4 in the query ("Create a signed AWS API request"; for AWS
//! IoT Core, "Device communication protocols", which leaves the session token out of what is signed). Pure.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::encode;

const SERVICE: &str = "iotdevicegateway";
const PATH: &str = "/mqtt";
/// For how long the URL opens a connection, in seconds: what the developer guide signs for, and as long as AWS IoT Core
/// keeps a WebSocket open.
const EXPIRES: u32 = 86_400;

/// Path and query that open a WebSocket at `host`, signed at `now_s` seconds after 1970.
pub(super) fn presigned_path(host: &str, region: &str, credentials: &Credentials, now_s: u64) -> String {
    let time = timestamp(now_s);
    let day = &time[..8];
    let scope = format!("{day}/{region}/{SERVICE}/aws4_request");
    let credential = encode(&format!("{}/{scope}", credentials.access_key_id));
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={time}&X-Amz-Expires={EXPIRES}&X-Amz-SignedHeaders=host"
    );
    let empty = hex(&Sha256::digest(b""));
    let request = format!("GET\n{PATH}\n{query}\nhost:{host}\n\nhost\n{empty}");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let secret = format!("AWS4{}", credentials.secret_access_key);
    let key =
        [day, region, SERVICE, "aws4_request"].iter().fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    let token = credentials.session_token.as_ref();
    let token = token.map_or(String::new(), |token| format!("&X-Amz-Security-Token={}", encode(token)));
    format!("{PATH}?{query}&X-Amz-Signature={signature}{token}")
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    // Keys of any length are taken (RFC 2104).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `20261122T070000Z`. Days to a date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`,
/// for years from 1970.
fn timestamp(now_s: u64) -> String {
    let (days, second) = (now_s / 86_400 + 719_468, now_s % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_the_ends_of_centuries() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_164_800, "20240229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }

    /// Made with botocore 1.44.5 (`SigV4QueryAuth` for `iotdevicegateway`, the session token appended afterwards).
    #[test]
    fn the_signature_is_the_one_that_awss_own_library_makes() {
        BOTOCORE.iter().for_each(|(host, region, token, now_s, path)| {
            let credentials = Credentials {
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: token.map(str::to_owned),
            };
            assert_eq!(presigned_path(host, region, &credentials, *now_s), *path);
        });
    }

    type Case = (&'static str, &'static str, Option<&'static str>, u64, &'static str);
    const BOTOCORE: [Case; 2] = [
        (
            "abc-ats.iot.eu-central-1.amazonaws.com",
            "eu-central-1",
            None,
            1_795_330_800,
            "/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261122%2Feu-central-1%2Fiotdevicegateway%2Faws4_request&X-Amz-Date=20261122T070000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=59207b626813dc6e43acf21138872f424db3447955f016054df0264cfdb7fbea",
        ),
        (
            "localhost:8443",
            "us-east-1",
            Some("FwoG/+=tok en"),
            1_709_164_800,
            "/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20240229%2Fus-east-1%2Fiotdevicegateway%2Faws4_request&X-Amz-Date=20240229T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=85075d1d5cfae113453d61aa58c1019a0474f9ac2529d0efd4e7668dfdc54d97&X-Amz-Security-Token=FwoG%2F%2B%3Dtok%20en",
        ),
    ];
}

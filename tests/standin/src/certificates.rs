//! Certificates for tests, made on the spot: an authority, a server for `localhost`, a client, and a stranger of no authority.

use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509NameBuilder, X509};

/// Makes the folder if it is not there, and writes `ca.pem`, and `server`, `client` and `stranger`, each with `.pem` and `.key`. They are good for a day.
///
/// # Errors
/// In words, when a file cannot be written.
pub fn write(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let told = |error: ErrorStack| error.to_string();
    let put = |name: String, pem: Vec<u8>| {
        let path = folder.join(name);
        std::fs::write(&path, pem).map_err(|error| format!("{}: {error}", path.display()))
    };
    let (ca, ca_key) = make("authority", None).map_err(told)?;
    put("ca.pem".into(), ca.to_pem().map_err(told)?)?;
    for name in ["server", "client", "stranger"] {
        let (certificate, key) = make(name, (name != "stranger").then_some((&ca, &ca_key))).map_err(told)?;
        put(format!("{name}.pem"), certificate.to_pem().map_err(told)?)?;
        put(format!("{name}.key"), key.private_key_to_pem_pkcs8().map_err(told)?)?;
    }
    Ok(())
}

fn make(name: &str, authority: Option<(&X509, &PKey<Private>)>) -> Result<(X509, PKey<Private>), ErrorStack> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_text("CN", name)?;
    let subject = subject.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.pseudo_rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(authority.map_or(&*subject, |(ca, _)| ca.subject_name()))?;
    builder.set_pubkey(&key)?;
    let (from, to) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(1)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&to)?;
    if name == "authority" {
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    }
    let names = SubjectAlternativeName::new().dns("localhost").build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(authority.map_or(&key, |(_, ca_key)| ca_key), MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

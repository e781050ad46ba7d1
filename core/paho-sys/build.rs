//! Compiles the C client as upstream's CMake compiles its static library with TLS (`PAHO_HIGH_PERFORMANCE`: no tracking
//! of the heap and the stack).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const VERSION: &str = "1.3.16";

const SOURCES: [&str; 25] = [
    "Base64",
    "Clients",
    "LinkedList",
    "Log",
    "MQTTAsync",
    "MQTTAsyncUtils",
    "MQTTPacket",
    "MQTTPacketOut",
    "MQTTPersistence",
    "MQTTPersistenceDefault",
    "MQTTProperties",
    "MQTTProtocolClient",
    "MQTTProtocolOut",
    "MQTTReasonCodes",
    "MQTTTime",
    "Messages",
    "Proxy",
    "SHA1",
    "SSLSocket",
    "Socket",
    "SocketBuffer",
    "Thread",
    "Tree",
    "WebSocket",
    "utf-8",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=paho.mqtt.c/src");
    let source = Path::new("paho.mqtt.c/src");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write_version(source, &out);
    let mut build = cc::Build::new();
    build
        .files(SOURCES.map(|name| source.join(name).with_extension("c")))
        .include(source)
        .include(&out)
        .std("gnu99")
        .define("HIGH_PERFORMANCE", "1")
        .define("OPENSSL", "1")
        .define("PAHO_MQTT_STATIC", "1")
        .define("NDEBUG", None)
        // Nothing of it may show in the shared libraries that it becomes part of.
        .flag_if_supported("-fvisibility=hidden")
        .warnings(false);
    if let Some(include) = env::var_os("DEP_OPENSSL_INCLUDE") {
        build.include(include);
    }
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("windows") => {
            build.define("_CRT_SECURE_NO_DEPRECATE", None).define("WIN32_LEAN_AND_MEAN", None);
        }
        Ok("macos") => {
            build.define("OSX", None).define("UNIXSOCK", "1");
        }
        _ => {
            build.define("_GNU_SOURCE", None).define("UNIXSOCK", "1");
        }
    }
    build.compile("unstale_paho");
    if env::var_os("CARGO_CFG_WINDOWS").is_some() {
        for library in ["ws2_32", "crypt32", "rpcrt4"] {
            println!("cargo::rustc-link-lib={library}");
        }
    }
}

/// What CMake makes of the template. Without the time of the build: the same sources give the same library.
fn write_version(source: &Path, out: &Path) {
    let template = fs::read_to_string(source.join("VersionInfo.h.in")).expect("VersionInfo.h.in");
    let mut text = template.replace("@BUILD_TIMESTAMP@", "").replace("@PROJECT_VERSION@", VERSION);
    for (part, number) in ["MAJOR", "MINOR", "PATCH"].into_iter().zip(VERSION.split('.')) {
        text = text.replace(&format!("@PROJECT_VERSION_{part}@"), number);
    }
    fs::write(out.join("VersionInfo.h"), text).expect("a writable OUT_DIR");
}

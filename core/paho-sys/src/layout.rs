//! The bindings against the header: a C compiler checks every offset, size and constant that Rust believes in.

use std::fmt::Write as _;
use std::fs;
use std::mem::{align_of, offset_of, size_of};
use std::path::Path;
use std::process::Command;

use super::*;

fn size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Claims about the fields of structures. `whole`: the library reads it, so that nothing may be missing at the end.
macro_rules! claims {
    ($($kind:ident $name:ident { $($field:ident),* })*) => {{
        let mut claims = String::new();
        $(
            let c = stringify!($name);
            $(
                let (f, at) = (stringify!($field), offset_of!($name, $field));
                let bytes = size(|s: &$name| &s.$field);
                claim(&mut claims, &format!("offsetof({c}, {f}) == {at}"));
                claim(&mut claims, &format!("sizeof((({c}*)0)->{f}) == {bytes}"));
            )*
            // A part may be less aligned than the whole: only references to it are held.
            if stringify!($kind) == "whole" {
                claim(&mut claims, &format!("sizeof({c}) == {}", size_of::<$name>()));
                claim(&mut claims, &format!("_Alignof({c}) == {}", align_of::<$name>()));
            }
        )*
        claims
    }};
}

fn claim(claims: &mut String, condition: &str) {
    writeln!(claims, "_Static_assert({condition}, \"\");").unwrap();
}

#[test]
fn structures_and_constants_are_those_of_the_header() {
    let mut claims = claims! {
        whole MQTTProperties { count, max_count, length, array }
        whole MQTTSubscribe_options { struct_id, struct_version, noLocal, retainAsPublished, retainHandling }
        part MQTTAsync_message { struct_id, struct_version, payloadlen, payload, qos, retained }
        part MQTTAsync_failureData { token, code, message }
        part MQTTAsync_failureData5 { struct_id, struct_version, token, reasonCode, properties, code, message }
        part MQTTAsync_successData5 { struct_id, struct_version, token, reasonCode }
        whole MQTTAsync_createOptions {
            struct_id, struct_version, sendWhileDisconnected, maxBufferedMessages, MQTTVersion, allowDisconnectedSendAtAnyTime,
            deleteOldestMessages, restoreMessages, persistQoS0
        }
        whole MQTTAsync_SSLOptions {
            struct_id, struct_version, trustStore, keyStore, privateKey, privateKeyPassword, enabledCipherSuites,
            enableServerCertAuth, sslVersion, verify, CApath, ssl_error_cb, ssl_error_context, ssl_psk_cb, ssl_psk_context,
            disableDefaultTrustStore, protos, protos_len
        }
        whole MQTTAsync_connectOptions {
            struct_id, struct_version, keepAliveInterval, cleansession, maxInflight, will, username, password, connectTimeout,
            retryInterval, ssl, onSuccess, onFailure, context, serverURIcount, serverURIs, MQTTVersion, automaticReconnect,
            minRetryInterval, maxRetryInterval, binarypwd, cleanstart, connectProperties, willProperties, onSuccess5, onFailure5,
            httpHeaders, httpProxy, httpsProxy
        }
        whole MQTTAsync_responseOptions {
            struct_id, struct_version, onSuccess, onFailure, context, token, onSuccess5, onFailure5, properties,
            subscribeOptions, subscribeOptionsCount, subscribeOptionsList
        }
    };
    let data = offset_of!(MQTTAsync_binary, data) + offset_of!(MQTTAsync_connectOptions, binarypwd);
    claim(&mut claims, &format!("offsetof(MQTTAsync_connectOptions, binarypwd.data) == {data}"));
    let alt = offset_of!(MQTTAsync_successData, alt);
    claim(&mut claims, &format!("offsetof(MQTTAsync_successData, alt.qos) == {alt}"));
    for (name, value) in [
        ("MQTTASYNC_FAILURE", MQTTASYNC_FAILURE),
        ("MQTTASYNC_DISCONNECTED", MQTTASYNC_DISCONNECTED),
        ("MQTTVERSION_3_1_1", MQTTVERSION_3_1_1),
        ("MQTTVERSION_5", MQTTVERSION_5),
        ("MQTTCLIENT_PERSISTENCE_NONE", MQTTCLIENT_PERSISTENCE_NONE),
        ("(int)sizeof(enum MQTTReasonCodes)", size_of::<MQTTReasonCodes>() as c_int),
    ] {
        claim(&mut claims, &format!("{name} == {value}"));
    }
    let file = std::env::temp_dir().join(format!("unstale-paho-layout-{}.c", std::process::id()));
    fs::write(&file, format!("#include <stddef.h>\n#include \"MQTTAsync.h\"\n{claims}")).unwrap();
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("paho.mqtt.c/src");
    let output = Command::new("cc").args(["-std=c11", "-fsyntax-only", "-I"]).arg(headers).arg(&file).output().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

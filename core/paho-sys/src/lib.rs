//! Bindings for what `unstale` uses of the Eclipse Paho MQTT C client, version 1.3.16 as patched here.
//!
//! Written by hand after `MQTTAsync.h`, so that they hold on every target. Structures that the library only writes are cut
//! off behind the last field that is read. `layout.rs` compares them with the header.

#![allow(non_camel_case_types, non_snake_case)]
// Names and meanings are the header's.
#![allow(missing_docs)]

#[cfg(test)]
mod layout;

// Linked for its library: Paho calls OpenSSL.
use openssl_sys as _;

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};
use std::ptr;

/// A client.
pub type MQTTAsync = *mut c_void;

/// A reason code of MQTT 5.
pub type MQTTReasonCodes = c_uint;

/// General failure.
pub const MQTTASYNC_FAILURE: c_int = -1;
/// The client is not connected.
pub const MQTTASYNC_DISCONNECTED: c_int = -3;
/// MQTT 3.1.1.
pub const MQTTVERSION_3_1_1: c_int = 4;
/// MQTT 5.
pub const MQTTVERSION_5: c_int = 5;
/// Nothing is kept on disk.
pub const MQTTCLIENT_PERSISTENCE_NONE: c_int = 1;

/// A list of properties of MQTT 5.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MQTTProperties {
    pub count: c_int,
    pub max_count: c_int,
    pub length: c_int,
    pub array: *mut c_void,
}

impl MQTTProperties {
    const EMPTY: MQTTProperties = MQTTProperties { count: 0, max_count: 0, length: 0, array: ptr::null_mut() };
}

/// Options of a subscription in MQTT 5.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MQTTSubscribe_options {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    pub noLocal: c_uchar,
    pub retainAsPublished: c_uchar,
    pub retainHandling: c_uchar,
}

/// A message received.
#[repr(C)]
pub struct MQTTAsync_message {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// Length of the payload.
    pub payloadlen: c_int,
    /// The payload.
    pub payload: *mut c_void,
    /// Quality of service.
    pub qos: c_int,
    /// Whether the broker had kept it.
    pub retained: c_int,
}

/// Why a request of MQTT 3.1.1 failed.
#[repr(C)]
pub struct MQTTAsync_failureData {
    /// Number of the message.
    pub token: c_int,
    /// The library's code, negative, or the broker's.
    pub code: c_int,
    /// Constant text or NULL.
    pub message: *const c_char,
}

/// Why a request of MQTT 5 failed.
#[repr(C)]
pub struct MQTTAsync_failureData5 {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// Number of the message.
    pub token: c_int,
    /// The broker's code.
    pub reasonCode: MQTTReasonCodes,
    pub properties: MQTTProperties,
    /// The library's code.
    pub code: c_int,
    /// Constant text or NULL.
    pub message: *const c_char,
}

/// The answer to a request of MQTT 3.1.1.
#[repr(C)]
pub struct MQTTAsync_successData {
    /// Number of the message.
    pub token: c_int,
    /// What was answered.
    pub alt: MQTTAsync_successAlternatives,
}

/// What was answered; which of them is for the caller to know.
#[repr(C)]
pub union MQTTAsync_successAlternatives {
    /// The QoS granted to a subscription to one topic.
    pub qos: c_int,
    pub list: *mut c_int,
}

/// The answer to a request of MQTT 5.
#[repr(C)]
pub struct MQTTAsync_successData5 {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// Number of the message.
    pub token: c_int,
    /// The broker's code.
    pub reasonCode: MQTTReasonCodes,
}

/// Success, MQTT 3.1.1.
pub type MQTTAsync_onSuccess = unsafe extern "C" fn(context: *mut c_void, response: *mut MQTTAsync_successData);
/// Failure, MQTT 3.1.1.
pub type MQTTAsync_onFailure = unsafe extern "C" fn(context: *mut c_void, response: *mut MQTTAsync_failureData);
/// Success, MQTT 5.
pub type MQTTAsync_onSuccess5 = unsafe extern "C" fn(context: *mut c_void, response: *mut MQTTAsync_successData5);
/// Failure, MQTT 5.
pub type MQTTAsync_onFailure5 = unsafe extern "C" fn(context: *mut c_void, response: *mut MQTTAsync_failureData5);
/// The connection is lost.
pub type MQTTAsync_connectionLost = unsafe extern "C" fn(context: *mut c_void, cause: *mut c_char);
/// The broker sent a DISCONNECT.
pub type MQTTAsync_disconnected =
    unsafe extern "C" fn(context: *mut c_void, properties: *mut MQTTProperties, reasonCode: MQTTReasonCodes);
/// A message has arrived.
pub type MQTTAsync_messageArrived = unsafe extern "C" fn(
    context: *mut c_void,
    topicName: *mut c_char,
    topicLen: c_int,
    message: *mut MQTTAsync_message,
) -> c_int;
/// A message was acknowledged.
pub type MQTTAsync_deliveryComplete = unsafe extern "C" fn(context: *mut c_void, token: c_int);
/// A line of OpenSSL's errors.
pub type ssl_error_cb = unsafe extern "C" fn(text: *const c_char, length: usize, context: *mut c_void) -> c_int;

/// Options of a new client.
#[repr(C)]
pub struct MQTTAsync_createOptions {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// Whether messages may be queued without a connection.
    pub sendWhileDisconnected: c_int,
    /// How many messages may be queued.
    pub maxBufferedMessages: c_int,
    /// The highest version that the client may use.
    pub MQTTVersion: c_int,
    pub allowDisconnectedSendAtAnyTime: c_int,
    /// Which goes when too many are queued.
    pub deleteOldestMessages: c_int,
    pub restoreMessages: c_int,
    pub persistQoS0: c_int,
}

impl MQTTAsync_createOptions {
    /// `MQTTAsync_createOptions_initializer5`
    pub const fn new() -> Self {
        MQTTAsync_createOptions {
            struct_id: *b"MQCO",
            struct_version: 2,
            sendWhileDisconnected: 0,
            maxBufferedMessages: 100,
            MQTTVersion: MQTTVERSION_5,
            allowDisconnectedSendAtAnyTime: 0,
            deleteOldestMessages: 0,
            restoreMessages: 1,
            persistQoS0: 1,
        }
    }
}

impl Default for MQTTAsync_createOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Options for TLS.
#[repr(C)]
pub struct MQTTAsync_SSLOptions {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// PEM file with the authorities to trust.
    pub trustStore: *const c_char,
    /// PEM file with the client's certificate.
    pub keyStore: *const c_char,
    /// PEM file with the client's key.
    pub privateKey: *const c_char,
    /// Its password.
    pub privateKeyPassword: *const c_char,
    pub enabledCipherSuites: *const c_char,
    /// Whether the certificate is verified.
    pub enableServerCertAuth: c_int,
    pub sslVersion: c_int,
    /// Whether the host's name is verified.
    pub verify: c_int,
    pub CApath: *const c_char,
    /// Hears what goes wrong.
    pub ssl_error_cb: Option<ssl_error_cb>,
    /// Given to it.
    pub ssl_error_context: *mut c_void,
    pub ssl_psk_cb: Option<unsafe extern "C" fn()>,
    pub ssl_psk_context: *mut c_void,
    pub disableDefaultTrustStore: c_int,
    /// Names for ALPN, each with its length before it; copied as a string, so a NUL must follow.
    pub protos: *const c_uchar,
    /// Their length in all.
    pub protos_len: c_uint,
}

impl MQTTAsync_SSLOptions {
    /// `MQTTAsync_SSLOptions_initializer`, but verifying the host's name.
    pub const fn new() -> Self {
        MQTTAsync_SSLOptions {
            struct_id: *b"MQTS",
            struct_version: 5,
            trustStore: ptr::null(),
            keyStore: ptr::null(),
            privateKey: ptr::null(),
            privateKeyPassword: ptr::null(),
            enabledCipherSuites: ptr::null(),
            enableServerCertAuth: 1,
            sslVersion: 0,
            verify: 1,
            CApath: ptr::null(),
            ssl_error_cb: None,
            ssl_error_context: ptr::null_mut(),
            ssl_psk_cb: None,
            ssl_psk_context: ptr::null_mut(),
            disableDefaultTrustStore: 0,
            protos: ptr::null(),
            protos_len: 0,
        }
    }
}

impl Default for MQTTAsync_SSLOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes with their length.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MQTTAsync_binary {
    /// How many.
    pub len: c_int,
    /// Where.
    pub data: *const c_void,
}

/// Options of a connection.
#[repr(C)]
pub struct MQTTAsync_connectOptions {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// Seconds.
    pub keepAliveInterval: c_int,
    pub cleansession: c_int,
    pub maxInflight: c_int,
    pub will: *mut c_void,
    /// Copied.
    pub username: *const c_char,
    pub password: *const c_char,
    /// Seconds; looked at every 3 s.
    pub connectTimeout: c_int,
    pub retryInterval: c_int,
    /// Needed for `mqtts://` and `wss://`.
    pub ssl: *mut MQTTAsync_SSLOptions,
    /// CONNACK, MQTT 3.1.1.
    pub onSuccess: Option<MQTTAsync_onSuccess>,
    /// Refused, MQTT 3.1.1.
    pub onFailure: Option<MQTTAsync_onFailure>,
    /// Given to these.
    pub context: *mut c_void,
    pub serverURIcount: c_int,
    pub serverURIs: *const *mut c_char,
    pub MQTTVersion: c_int,
    pub automaticReconnect: c_int,
    pub minRetryInterval: c_int,
    pub maxRetryInterval: c_int,
    /// The password.
    pub binarypwd: MQTTAsync_binary,
    pub cleanstart: c_int,
    pub connectProperties: *mut MQTTProperties,
    pub willProperties: *mut MQTTProperties,
    /// CONNACK, MQTT 5.
    pub onSuccess5: Option<MQTTAsync_onSuccess5>,
    /// Refused, MQTT 5.
    pub onFailure5: Option<MQTTAsync_onFailure5>,
    pub httpHeaders: *const c_void,
    pub httpProxy: *const c_char,
    pub httpsProxy: *const c_char,
}

impl MQTTAsync_connectOptions {
    /// `MQTTAsync_connectOptions_initializer5`
    pub const fn new_v5() -> Self {
        Self::new(MQTTVERSION_5)
    }

    /// `MQTTAsync_connectOptions_initializer`, but of MQTT 3.1.1 and nothing earlier.
    pub const fn new_v3() -> Self {
        Self::new(MQTTVERSION_3_1_1)
    }

    const fn new(version: c_int) -> Self {
        let v5 = version == MQTTVERSION_5;
        MQTTAsync_connectOptions {
            struct_id: *b"MQTC",
            struct_version: 8,
            keepAliveInterval: 60,
            cleansession: !v5 as c_int,
            maxInflight: 65_535,
            will: ptr::null_mut(),
            username: ptr::null(),
            password: ptr::null(),
            connectTimeout: 30,
            retryInterval: 0,
            ssl: ptr::null_mut(),
            onSuccess: None,
            onFailure: None,
            context: ptr::null_mut(),
            serverURIcount: 0,
            serverURIs: ptr::null(),
            MQTTVersion: version,
            automaticReconnect: 0,
            minRetryInterval: 1,
            maxRetryInterval: 60,
            binarypwd: MQTTAsync_binary { len: 0, data: ptr::null() },
            cleanstart: v5 as c_int,
            connectProperties: ptr::null_mut(),
            willProperties: ptr::null_mut(),
            onSuccess5: None,
            onFailure5: None,
            httpHeaders: ptr::null(),
            httpProxy: ptr::null(),
            httpsProxy: ptr::null(),
        }
    }
}

/// Who is told of the answer to a request.
#[repr(C)]
pub struct MQTTAsync_responseOptions {
    pub struct_id: [u8; 4],
    pub struct_version: c_int,
    /// MQTT 3.1.1.
    pub onSuccess: Option<MQTTAsync_onSuccess>,
    /// MQTT 3.1.1.
    pub onFailure: Option<MQTTAsync_onFailure>,
    /// Given to these.
    pub context: *mut c_void,
    pub token: c_int,
    /// MQTT 5.
    pub onSuccess5: Option<MQTTAsync_onSuccess5>,
    /// MQTT 5.
    pub onFailure5: Option<MQTTAsync_onFailure5>,
    pub properties: MQTTProperties,
    pub subscribeOptions: MQTTSubscribe_options,
    pub subscribeOptionsCount: c_int,
    pub subscribeOptionsList: *mut MQTTSubscribe_options,
}

impl MQTTAsync_responseOptions {
    /// `MQTTAsync_responseOptions_initializer`
    pub const fn new() -> Self {
        MQTTAsync_responseOptions {
            struct_id: *b"MQTR",
            struct_version: 1,
            onSuccess: None,
            onFailure: None,
            context: ptr::null_mut(),
            token: 0,
            onSuccess5: None,
            onFailure5: None,
            properties: MQTTProperties::EMPTY,
            subscribeOptions: MQTTSubscribe_options {
                struct_id: *b"MQSO",
                struct_version: 0,
                noLocal: 0,
                retainAsPublished: 0,
                retainHandling: 0,
            },
            subscribeOptionsCount: 0,
            subscribeOptionsList: ptr::null_mut(),
        }
    }
}

impl Default for MQTTAsync_responseOptions {
    fn default() -> Self {
        Self::new()
    }
}

extern "C" {
    /// A client with the default options.
    pub fn MQTTAsync_create(
        handle: *mut MQTTAsync,
        serverURI: *const c_char,
        clientId: *const c_char,
        persistence_type: c_int,
        persistence_context: *mut c_void,
    ) -> c_int;
    /// A client.
    pub fn MQTTAsync_createWithOptions(
        handle: *mut MQTTAsync,
        serverURI: *const c_char,
        clientId: *const c_char,
        persistence_type: c_int,
        persistence_context: *mut c_void,
        options: *mut MQTTAsync_createOptions,
    ) -> c_int;
    /// Ends a client, and its connection.
    pub fn MQTTAsync_destroy(handle: *mut MQTTAsync);
    /// Who is told of messages and of the connection's end.
    pub fn MQTTAsync_setCallbacks(
        handle: MQTTAsync,
        context: *mut c_void,
        cl: Option<MQTTAsync_connectionLost>,
        ma: Option<MQTTAsync_messageArrived>,
        dc: Option<MQTTAsync_deliveryComplete>,
    ) -> c_int;
    /// Who is told of a DISCONNECT.
    pub fn MQTTAsync_setDisconnected(
        handle: MQTTAsync,
        context: *mut c_void,
        co: Option<MQTTAsync_disconnected>,
    ) -> c_int;
    /// Starts to connect.
    pub fn MQTTAsync_connect(handle: MQTTAsync, options: *const MQTTAsync_connectOptions) -> c_int;
    /// Queues a message.
    pub fn MQTTAsync_send(
        handle: MQTTAsync,
        destinationName: *const c_char,
        payloadlen: c_int,
        payload: *const c_void,
        qos: c_int,
        retained: c_int,
        response: *mut MQTTAsync_responseOptions,
    ) -> c_int;
    /// Queues a subscription.
    pub fn MQTTAsync_subscribe(
        handle: MQTTAsync,
        topic: *const c_char,
        qos: c_int,
        response: *mut MQTTAsync_responseOptions,
    ) -> c_int;
    /// Queues the end of a subscription.
    pub fn MQTTAsync_unsubscribe(
        handle: MQTTAsync,
        topic: *const c_char,
        response: *mut MQTTAsync_responseOptions,
    ) -> c_int;
    /// Frees a message that was received.
    pub fn MQTTAsync_freeMessage(msg: *mut *mut MQTTAsync_message);
    /// Frees a topic that was received.
    pub fn MQTTAsync_free(ptr: *mut c_void);
    /// A reason code's name, constant, or NULL.
    pub fn MQTTReasonCode_toString(value: MQTTReasonCodes) -> *const c_char;
}

//! Paho's asynchronous C client, made safe: the only file with its calls, and with `unsafe` in the transport.
//!
//! The C library is used without its Rust wrapper, because the wrapper loses what the errors of this library are made
//! of (the TLS library's reason, the difference between a refused port and a refused certificate) and hands out
//! acknowledgements through futures, beside the order of the messages. See `docs/decisions/0005-paho.md`.
//!
//! What the C source (1.3.16) demands and this file grants:
//! - Every callback runs under one lock of the library, mostly on its threads; a call back into it from there can
//!   deadlock. A [`Listener`] may only copy, note and enqueue.
//! - `MQTTAsync_connect` and `MQTTAsync_destroy` change one list under different locks: [`LIBRARY`] keeps them apart.
//! - When the last client goes, the library stops its threads, for up to a second, and a client made meanwhile may be
//!   left without them. So one client that never connects, the keeper, stays.
//! - A client may be destroyed in any state; no callback of it runs after that has returned.
//! - Frames of WebSockets are taken apart in buffers that all connections share, and that keep what an ended connection
//!   left there. So there is one WebSocket at a time ([`WebSocketTurn`]), and after it the library is started anew, when
//!   no other connection needs it.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use foldhash::fast::FixedState;
use parking_lot::{Condvar, Mutex};
use unstale_paho_sys as ffi;

use crate::config::Secret;

/// Hears what becomes of one connection. Called on Paho's threads, under its lock: copy, note, enqueue, return.
pub(super) trait Listener: Send + Sync + 'static {
    /// CONNACK, accepted.
    fn connected(&self);
    /// The attempt is over.
    fn failed(&self, failure: Failure);
    /// The connection is over; `reason` is the broker's, when it gave one. May be called more than once.
    fn lost(&self, reason: Option<u8>);
    /// A message; it is acknowledged to the broker when this returns.
    fn message(&self, topic: &str, payload: &[u8], retained: bool, qos: u8);
    /// The TLS library's words for what went wrong.
    fn tls_trouble(&self, text: &str);
    /// A callback panicked; what it was to report is lost.
    fn panicked(&self);
}

/// Why the library or the broker did not do what was asked.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The library's return code, 0 or negative.
    pub code: i32,
    /// The broker's: a reason code of MQTT 5 (from 0x80), or the return code of a CONNACK or SUBACK of MQTT 3.1.1.
    pub reason: Option<u8>,
    /// Where in the library it happened.
    pub place: Option<String>,
}

impl Failure {
    /// The library itself says that there is no connection.
    pub(super) fn is_disconnected(&self) -> bool {
        self.code == ffi::MQTTASYNC_DISCONNECTED
    }
}

/// The right to use WebSockets; for one connection at a time.
pub(super) struct WebSocketTurn(());

/// What a connection is made with. All strings are copied by the library when it connects.
pub(super) struct Options {
    pub client_id: CString,
    pub v5: bool,
    pub websocket: bool,
    pub keep_alive_s: i32,
    /// A limit that is never reached: the attempt's owner destroys the client earlier. The library looks at it only every 3 s.
    pub connect_timeout_s: i32,
    pub username: Option<CString>,
    pub password: Option<Secret>,
    pub tls: Option<Tls>,
}

/// TLS options.
pub(super) struct Tls {
    /// One of these two at least: without them OpenSSL would take what its own installation has, which does not exist.
    pub ca_file: Option<CString>,
    pub ca_dir: Option<CString>,
    pub cert_file: Option<CString>,
    pub key_file: Option<CString>,
    /// Names with their lengths before them, and a NUL at the end: the library copies it as a string.
    pub alpn: Option<CString>,
}

/// A client of the C library. Dropping it ends its connection with a DISCONNECT; never drop it in a callback.
pub(super) struct Client {
    handle: ffi::MQTTAsync,
    v5: bool,
    websocket: bool,
    /// What connection-level callbacks point to. Boxed twice, because a `dyn` pointer is too wide for C.
    listener: Box<Arc<dyn Listener>>,
}

// SAFETY: the library locks for itself; its handles are not bound to a thread.
unsafe impl Send for Client {}

/// Takes the answer to a request: the broker's code, or why there is none.
pub(super) type Answer = Box<dyn FnOnce(Result<u8, Failure>) + Send>;

/// Held while a client is made, connected or destroyed; see the top of this file.
static LIBRARY: Mutex<Library> = Mutex::new(Library { keeper: None, clients: 0, soiled: false });

struct Library {
    keeper: Option<Keeper>,
    /// Clients but for the keeper.
    clients: usize,
    /// A WebSocket was used since the library started.
    soiled: bool,
}

/// A client that never connects.
struct Keeper(ffi::MQTTAsync);

// SAFETY: the library locks for itself; its handles are not bound to a thread.
unsafe impl Send for Keeper {}

/// Whether somebody has the [`WebSocketTurn`].
static TURN: Mutex<bool> = Mutex::new(false);
static TURN_ENDED: Condvar = Condvar::new();

/// Who waits for which answer. The library gets a number, never a pointer: an answer that comes twice or never costs nothing.
static REQUESTS: LazyLock<Mutex<HashMap<usize, Request, FixedState>>> = LazyLock::new(Mutex::default);

struct Request {
    listener: Arc<dyn Listener>,
    answer: Answer,
}

/// Claims the library for this process; false in a child of a process that had claimed it, where it cannot work: its
/// threads stayed in the parent and its locks may be held by them for ever.
pub(super) fn enter_process() -> bool {
    static OWNER: AtomicU32 = AtomicU32::new(0);
    let me = std::process::id();
    match OWNER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Err(owner) => owner == me,
        Ok(_) => true,
    }
}

impl Library {
    /// Starts the library, if it is not running.
    fn start(&mut self) -> Result<(), Failure> {
        if self.keeper.is_none() {
            // Before the C library does it: then OpenSSL is not taken down at exit, while threads of the C library or of a
            // [`Client`]'s owner are still using it. The system frees what it holds.
            openssl::init();
            let mut handle: ffi::MQTTAsync = ptr::null_mut();
            let (uri, id, none) = (c"tcp://localhost", c"keeper", ffi::MQTTCLIENT_PERSISTENCE_NONE);
            // SAFETY: constant NUL-terminated strings and a place for the handle.
            check(unsafe { ffi::MQTTAsync_create(&mut handle, uri.as_ptr(), id.as_ptr(), none, ptr::null_mut()) })?;
            self.keeper = Some(Keeper(handle));
        }
        Ok(())
    }

    /// Notes that a client was destroyed, and clears up after a WebSocket when it was the last.
    fn left(&mut self, websocket: bool) {
        self.clients -= 1;
        self.soiled |= websocket;
        if self.soiled && self.clients == 0 {
            if let Some(Keeper(mut handle)) = self.keeper.take() {
                // SAFETY: created and not yet destroyed. As the last client it takes the library's threads and buffers along.
                unsafe { ffi::MQTTAsync_destroy(&mut handle) };
            }
            self.soiled = false;
        }
    }
}

impl WebSocketTurn {
    /// Waits for the turn; `None` when it does not come in time.
    pub(super) fn wait(deadline: Instant) -> Option<WebSocketTurn> {
        let mut taken = TURN.lock();
        while *taken {
            if TURN_ENDED.wait_until(&mut taken, deadline).timed_out() {
                return None;
            }
        }
        *taken = true;
        Some(WebSocketTurn(()))
    }
}

impl Drop for WebSocketTurn {
    fn drop(&mut self) {
        *TURN.lock() = false;
        TURN_ENDED.notify_one();
    }
}

/// A reason code of MQTT 5 in words.
pub(super) fn reason_text(reason: u8) -> String {
    // SAFETY: returns NULL or a constant string.
    let text = unsafe { ffi::MQTTReasonCode_toString(ffi::MQTTReasonCodes::from(reason)) };
    if text.is_null() {
        return format!("reason 0x{reason:02x}");
    }
    // SAFETY: not NULL, so a constant NUL-terminated string of the library.
    let name = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    format!("{} (0x{reason:02x})", name.replace('_', " ").to_lowercase())
}

impl Client {
    /// A client with its callbacks set, not connected.
    pub(super) fn new(uri: &CStr, options: &Options, listener: Arc<dyn Listener>) -> Result<Client, Failure> {
        let mut create = ffi::MQTTAsync_createOptions {
            MQTTVersion: version(options.v5),
            // The outbox bounds what is under way, far below this. The library searches its queue for each message, and
            // must never delete the oldest (under MQTT 5 it crashes doing so).
            maxBufferedMessages: 16_384,
            deleteOldestMessages: 0,
            sendWhileDisconnected: 0,
            ..Default::default()
        };
        let mut library = LIBRARY.lock();
        library.start()?;
        let mut handle: ffi::MQTTAsync = ptr::null_mut();
        // SAFETY: NUL-terminated strings and a valid structure, all copied; a place for the handle.
        check(unsafe {
            ffi::MQTTAsync_createWithOptions(
                &mut handle,
                uri.as_ptr(),
                options.client_id.as_ptr(),
                ffi::MQTTCLIENT_PERSISTENCE_NONE,
                ptr::null_mut(),
                &mut create,
            )
        })?;
        library.clients += 1;
        drop(library);
        let client = Client { handle, v5: options.v5, websocket: options.websocket, listener: Box::new(listener) };
        let context = client.context();
        // SAFETY: the context outlives the client: `Drop` destroys the handle before the box is freed.
        check(unsafe { ffi::MQTTAsync_setCallbacks(handle, context, Some(on_lost), Some(on_message), None) })?;
        // SAFETY: as above.
        check(unsafe { ffi::MQTTAsync_setDisconnected(handle, context, Some(on_disconnected)) })?;
        Ok(client)
    }

    /// Starts the one attempt of this client.
    pub(super) fn connect(&self, options: &Options) -> Result<(), Failure> {
        let context = self.context();
        let mut tls;
        let mut connect =
            if options.v5 { ffi::MQTTAsync_connectOptions::new_v5() } else { ffi::MQTTAsync_connectOptions::new_v3() };
        connect.MQTTVersion = version(options.v5);
        connect.keepAliveInterval = options.keep_alive_s;
        connect.connectTimeout = options.connect_timeout_s;
        connect.automaticReconnect = 0;
        connect.context = context;
        if options.v5 {
            connect.onSuccess5 = Some(on_connected5);
            connect.onFailure5 = Some(on_refused5);
        } else {
            connect.onSuccess = Some(on_connected);
            connect.onFailure = Some(on_refused);
        }
        if let Some(name) = &options.username {
            connect.username = name.as_ptr();
        }
        if let Some(password) = &options.password {
            connect.binarypwd.len = password.expose().len() as c_int;
            connect.binarypwd.data = password.expose().as_ptr().cast();
        }
        if let Some(options) = &options.tls {
            tls = options.to_c();
            tls.ssl_error_cb = Some(on_tls_trouble);
            tls.ssl_error_context = context;
            connect.ssl = &mut tls;
        }
        let _apart = LIBRARY.lock();
        // SAFETY: a valid handle and structure; all that it points to lives until the call returns and is copied by it,
        // but for the context, which outlives the client.
        check(unsafe { ffi::MQTTAsync_connect(self.handle, &connect) })
    }

    /// Queues a message, QoS 1, not retained.
    pub(super) fn publish(&self, topic: &CStr, payload: &[u8], answer: Answer) -> Result<(), (Failure, Answer)> {
        let Ok(length) = c_int::try_from(payload.len()) else {
            return Err((
                Failure { code: ffi::MQTTASYNC_FAILURE, reason: None, place: Some("payload over 2 GiB".into()) },
                answer,
            ));
        };
        self.request(answer, |response| {
            // SAFETY: a valid handle, string and structure; the payload has `length` bytes; all are copied.
            unsafe { ffi::MQTTAsync_send(self.handle, topic.as_ptr(), length, payload.as_ptr().cast(), 1, 0, response) }
        })
    }

    /// Queues a subscription to one topic, QoS 1. One packet per topic: the library does not say how many codes a
    /// SUBACK of MQTT 3.1.1 held, so that a list of them could not be read safely.
    pub(super) fn subscribe(&self, topic: &CStr, answer: Answer) -> Result<(), (Failure, Answer)> {
        self.request(answer, |response| {
            // SAFETY: a valid handle, string and structure; the string is copied.
            unsafe { ffi::MQTTAsync_subscribe(self.handle, topic.as_ptr(), 1, response) }
        })
    }

    /// Queues the end of a subscription. No answer.
    pub(super) fn unsubscribe(&self, topic: &CStr) -> Result<(), Failure> {
        // SAFETY: a valid handle and string, which is copied; the response may be NULL.
        check(unsafe { ffi::MQTTAsync_unsubscribe(self.handle, topic.as_ptr(), ptr::null_mut()) })
    }

    /// Registers the answer before the call, because it can come before the call returns.
    fn request(
        &self,
        answer: Answer,
        call: impl FnOnce(*mut ffi::MQTTAsync_responseOptions) -> c_int,
    ) -> Result<(), (Failure, Answer)> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        REQUESTS.lock().insert(number, Request { listener: Arc::clone(&self.listener), answer });
        let mut response =
            ffi::MQTTAsync_responseOptions { context: ptr::without_provenance_mut(number), ..Default::default() };
        if self.v5 {
            response.onSuccess5 = Some(on_success5);
            response.onFailure5 = Some(on_failure5);
        } else {
            response.onSuccess = Some(on_success);
            response.onFailure = Some(on_failure);
        }
        check(call(&mut response)).or_else(|failure| match REQUESTS.lock().remove(&number) {
            Some(request) => Err((failure, request.answer)),
            None => Ok(()),
        })
    }

    fn context(&self) -> *mut c_void {
        ptr::from_ref::<Arc<dyn Listener>>(&self.listener).cast_mut().cast()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        {
            let mut library = LIBRARY.lock();
            // SAFETY: a handle that was created and not yet destroyed.
            unsafe { ffi::MQTTAsync_destroy(&mut self.handle) };
            library.left(self.websocket);
        }
        let left: Vec<Request> =
            REQUESTS.lock().extract_if(|_, r| Arc::ptr_eq(&r.listener, &self.listener)).map(|(_, r)| r).collect();
        // Freed here, outside the lock.
        drop(left);
    }
}

impl Tls {
    fn to_c(&self) -> ffi::MQTTAsync_SSLOptions {
        let or_null = |s: &Option<CString>| s.as_ref().map_or(ptr::null(), |s| s.as_ptr());
        ffi::MQTTAsync_SSLOptions {
            trustStore: or_null(&self.ca_file),
            CApath: or_null(&self.ca_dir),
            disableDefaultTrustStore: 1,
            keyStore: or_null(&self.cert_file),
            privateKey: or_null(&self.key_file),
            // For an encrypted key: without a password OpenSSL asks for one on the terminal, and everything waits.
            privateKeyPassword: if self.key_file.is_some() { c"".as_ptr() } else { ptr::null() },
            enableServerCertAuth: 1,
            verify: 1,
            protos: or_null(&self.alpn).cast(),
            protos_len: self.alpn.as_ref().map_or(0, |a| a.as_bytes().len() as u32),
            ..Default::default()
        }
    }
}

fn version(v5: bool) -> c_int {
    if v5 {
        ffi::MQTTVERSION_5
    } else {
        ffi::MQTTVERSION_3_1_1
    }
}

fn check(code: c_int) -> Result<(), Failure> {
    if code == 0 {
        Ok(())
    } else {
        Err(Failure { code, reason: None, place: None })
    }
}

/// Runs a connection-level callback; a panic ends there and is reported.
///
/// # Safety
/// `context` is that of a client that is not yet destroyed.
unsafe fn listen(context: *mut c_void, f: impl FnOnce(&dyn Listener)) {
    // SAFETY: by the caller's promise it points to the client's box.
    let listener: &Arc<dyn Listener> = unsafe { &*context.cast::<Arc<dyn Listener>>() };
    contain(listener, || f(&**listener));
}

fn contain(listener: &Arc<dyn Listener>, f: impl FnOnce()) {
    let caught: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(f));
    if caught.is_err() {
        let _ = catch_unwind(AssertUnwindSafe(|| listener.panicked()));
    }
}

fn answer(context: *mut c_void, result: Result<u8, Failure>) {
    let request = REQUESTS.lock().remove(&context.addr());
    if let Some(Request { listener, answer }) = request {
        contain(&listener, || answer(result));
    }
}

/// # Safety
/// NULL or a NUL-terminated string.
unsafe fn text(message: *const c_char) -> Option<String> {
    // SAFETY: by the caller's promise.
    (!message.is_null()).then(|| unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
}

/// # Safety
/// NULL or a failure of the library.
unsafe fn failure3(response: *const ffi::MQTTAsync_failureData) -> Failure {
    // SAFETY: by the caller's promise.
    match unsafe { response.as_ref() } {
        // A positive code is the broker's: a CONNACK's 1 to 5, a SUBACK's 0x80.
        Some(r) => Failure {
            code: r.code.min(0),
            reason: u8::try_from(r.code).ok().filter(|c| *c > 0),
            // SAFETY: the library's message is NULL or a constant string.
            place: unsafe { text(r.message) },
        },
        None => Failure { code: ffi::MQTTASYNC_FAILURE, reason: None, place: None },
    }
}

/// # Safety
/// NULL or a failure of the library.
unsafe fn failure5(response: *const ffi::MQTTAsync_failureData5) -> Failure {
    // SAFETY: by the caller's promise.
    match unsafe { response.as_ref() } {
        Some(r) => Failure {
            code: r.code.min(0),
            // Below 0x80 only where a broker of MQTT 3 answers a CONNECT of MQTT 5.
            reason: u8::try_from(r.reasonCode).ok().filter(|c| *c > 0),
            // SAFETY: the library's message is NULL or a constant string.
            place: unsafe { text(r.message) },
        },
        None => Failure { code: ffi::MQTTASYNC_FAILURE, reason: None, place: None },
    }
}

unsafe extern "C" fn on_connected(context: *mut c_void, _: *mut ffi::MQTTAsync_successData) {
    // SAFETY: the context given to `MQTTAsync_connect`.
    unsafe { listen(context, |l| l.connected()) }
}

unsafe extern "C" fn on_connected5(context: *mut c_void, _: *mut ffi::MQTTAsync_successData5) {
    // SAFETY: the context given to `MQTTAsync_connect`.
    unsafe { listen(context, |l| l.connected()) }
}

unsafe extern "C" fn on_refused(context: *mut c_void, response: *mut ffi::MQTTAsync_failureData) {
    // SAFETY: the library's own structure, and the context given to `MQTTAsync_connect`.
    unsafe { listen(context, |l| l.failed(failure3(response))) }
}

unsafe extern "C" fn on_refused5(context: *mut c_void, response: *mut ffi::MQTTAsync_failureData5) {
    // SAFETY: the library's own structure, and the context given to `MQTTAsync_connect`.
    unsafe { listen(context, |l| l.failed(failure5(response))) }
}

unsafe extern "C" fn on_lost(context: *mut c_void, _: *mut c_char) {
    // SAFETY: the context given to `MQTTAsync_setCallbacks`.
    unsafe { listen(context, |l| l.lost(None)) }
}

unsafe extern "C" fn on_disconnected(context: *mut c_void, _: *mut ffi::MQTTProperties, reason: ffi::MQTTReasonCodes) {
    // SAFETY: the context given to `MQTTAsync_setDisconnected`.
    unsafe { listen(context, |l| l.lost(u8::try_from(reason).ok())) }
}

unsafe extern "C" fn on_message(
    context: *mut c_void,
    topic: *mut c_char,
    topic_length: c_int,
    mut message: *mut ffi::MQTTAsync_message,
) -> c_int {
    // SAFETY: the library hands over a topic (of the given length, or NUL-terminated when that is 0) and a message, ours
    // until they are freed below; and the context given to `MQTTAsync_setCallbacks`.
    unsafe {
        listen(context, |l| {
            let topic = match usize::try_from(topic_length) {
                Ok(length @ 1..) => std::slice::from_raw_parts(topic.cast::<u8>(), length),
                _ => CStr::from_ptr(topic).to_bytes(),
            };
            let m = &*message;
            let payload = match usize::try_from(m.payloadlen) {
                Ok(length @ 1..) if !m.payload.is_null() => std::slice::from_raw_parts(m.payload.cast::<u8>(), length),
                _ => &[],
            };
            l.message(&String::from_utf8_lossy(topic), payload, m.retained != 0, m.qos as u8);
        });
        ffi::MQTTAsync_freeMessage(&mut message);
        ffi::MQTTAsync_free(topic.cast());
    }
    // Always "taken": the library would else hand it over again.
    1
}

unsafe extern "C" fn on_tls_trouble(text: *const c_char, length: usize, context: *mut c_void) -> c_int {
    if text.is_null() {
        return 1;
    }
    // SAFETY: OpenSSL hands over `length` bytes, and the context given in the TLS options.
    unsafe {
        let text = std::slice::from_raw_parts(text.cast::<u8>(), length);
        listen(context, |l| l.tls_trouble(&String::from_utf8_lossy(text)));
    }
    1
}

unsafe extern "C" fn on_success(context: *mut c_void, response: *mut ffi::MQTTAsync_successData) {
    // SAFETY: NULL or the library's own structure. For a SUBACK the union holds the granted QoS; for the others it is
    // some bytes of a pointer, and nobody looks at the code.
    let code = unsafe { response.as_ref().map_or(0, |r| r.alt.qos) };
    answer(context, Ok(u8::try_from(code).unwrap_or(u8::MAX)));
}

unsafe extern "C" fn on_success5(context: *mut c_void, response: *mut ffi::MQTTAsync_successData5) {
    // SAFETY: NULL or the library's own structure.
    let code = unsafe { response.as_ref().map_or(0, |r| r.reasonCode) };
    answer(context, Ok(u8::try_from(code).unwrap_or(u8::MAX)));
}

unsafe extern "C" fn on_failure(context: *mut c_void, response: *mut ffi::MQTTAsync_failureData) {
    // SAFETY: NULL or the library's own structure.
    answer(context, Err(unsafe { failure3(response) }));
}

unsafe extern "C" fn on_failure5(context: *mut c_void, response: *mut ffi::MQTTAsync_failureData5) {
    // SAFETY: NULL or the library's own structure.
    answer(context, Err(unsafe { failure5(response) }));
}

//! Links the addon so that it exports its entry point and nothing else, and stays loaded.

fn main() {
    napi_build::setup();
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Node's executable exports an OpenSSL of its own; ours must neither be seen by it nor be bound to it. rustc hides
        // what Rust does not export, and this hides what the C libraries would.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
        // Node unloads an addon with the worker that loaded it; our threads go on.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

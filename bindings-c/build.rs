//! How the shared library presents itself to the linker and the loader.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number counts incompatible changes of the C interface.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libunstale.so.0");
        // Its threads and thread-locals outlive any `dlclose`.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

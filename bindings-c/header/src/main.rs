//! Writes `bindings-c/include/unstale.h` from the sources of `bindings-c`.
//!
//! `cargo run --release -p unstale-c-header` writes it; with `--check` it only says whether the committed one is
//! up to date (exit code 1: it is not).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn bindings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn committed() -> PathBuf {
    bindings().join("include/unstale.h")
}

fn generate() -> Result<String, String> {
    let config = cbindgen::Config::from_file(bindings().join("cbindgen.toml"))?;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(bindings().join("src/lib.rs"))
        .generate()
        .map_err(|e| e.to_string())?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).map_err(|e| e.to_string())?;
    // Rust's heading for what the caller owes means nothing to a reader of C.
    Ok(text.replace("// # Safety\n", "// The caller's part:\n"))
}

fn main() -> ExitCode {
    let check = std::env::args().any(|a| a == "--check");
    let text = match generate() {
        Ok(text) => text,
        Err(e) => {
            eprintln!("cbindgen: {e}");
            return ExitCode::FAILURE;
        }
    };
    if !check {
        if let Err(e) = std::fs::write(committed(), text) {
            eprintln!("{}: {e}", committed().display());
            return ExitCode::FAILURE;
        }
    } else if std::fs::read_to_string(committed()).ok().as_ref() != Some(&text) {
        eprintln!("include/unstale.h is not what the sources say; run: cargo run --release -p unstale-c-header");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_header_is_what_the_sources_say() {
        let committed = std::fs::read_to_string(super::committed()).expect("include/unstale.h");
        let generated = super::generate().expect("cbindgen");
        assert!(committed == generated, "run: cargo run --release -p unstale-c-header");
    }
}

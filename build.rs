//! Compiles the session's frames from `proto/` with a compiler written in Rust, so no `protoc` is needed, and says what the
//! programs are built of, and with.

#[path = "build/revision.rs"]
mod revision;

use std::env::var;
use std::path::PathBuf;
use std::process::Command;

/// Tells the commit where the repository is not at hand, as for an image.
const REVISION: &str = "WRITEBACK_REVISION";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let frames = protox::compile(["writeback/v1/session.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(frames)?;
    // What a measurement says it was made with.
    let compiler = Command::new(var("RUSTC")?).arg("--version").output()?;
    println!("cargo:rustc-env=COMPILED_BY={}", String::from_utf8(compiler.stdout)?.trim());
    let (folder, is_release) = (PathBuf::from(var("CARGO_MANIFEST_DIR")?), var("PROFILE")? == "release");
    println!("cargo:rerun-if-env-changed={REVISION}");
    println!("cargo:rustc-env=REVISION={}", revision::revision(var(REVISION).ok(), &folder, is_release));
    for path in revision::depends_on(&folder).into_iter().filter(|_| is_release) {
        println!("cargo:rerun-if-changed={path}");
    }
    Ok(())
}

//! Compiles the session's frames from `proto/` with a compiler written in Rust, so no `protoc` is needed.

use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let frames = protox::compile(["writeback/v1/session.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(frames)?;
    // What a measurement says it was made with.
    let compiler = Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo:rustc-env=COMPILED_BY={}", String::from_utf8(compiler.stdout)?.trim());
    Ok(())
}

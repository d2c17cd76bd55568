//! Compiles the session's frames from `proto/` with a compiler written in Rust, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let frames = protox::compile(["writeback/v1/session.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(frames)?;
    Ok(())
}

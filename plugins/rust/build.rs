//! Generates the server from the protos, which are in `protos`, in a copy of this folder, or two
//! folders up. The compiler of protos comes as a crate.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = if Path::new("protos").exists() {
        "protos"
    } else {
        "../../protos"
    };
    let file = format!("{protos}/onward/notifier/v1/notifier.proto");
    println!("cargo:rerun-if-changed={file}");
    let mut config = tonic_prost_build::Config::new();
    config.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    let bundled = protoc_bin_vendored::include_path()?;
    tonic_prost_build::configure().compile_with_config(
        config,
        &[file],
        &[protos.to_string(), bundled.display().to_string()],
    )?;
    Ok(())
}

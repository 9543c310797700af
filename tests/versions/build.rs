//! Turns the name of the package into the protocol that it speaks.

fn main() {
    // The library's features are not this package's: no `--all-features` can turn them on.
    println!(
        "cargo::rustc-check-cfg=cfg(feature, values(\"axum\", \"axum-ws\", \"control\", \"hyper\", \"macros\", \"metrics\", \"rustls\", \"test-util\", \"testing\", \"tonic\", \"tonic-health\", \"tower\", \"tungstenite\"))"
    );
    let name = env!("CARGO_PKG_NAME");
    let protocol = name.strip_prefix("handover-");
    let protocol = protocol.expect("the package is named after its protocol");
    println!("cargo::rustc-cfg=handover_protocol=\"{protocol}\"");
    println!("cargo::rustc-cfg=feature=\"control\"");
    println!("cargo::rerun-if-changed=../build.rs");
}

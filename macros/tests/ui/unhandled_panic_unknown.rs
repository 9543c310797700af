#[handover_macros::main(flavor = "local", unhandled_panic = "abort")]
async fn main() {}

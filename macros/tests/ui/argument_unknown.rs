#[handover_macros::main(tls = true)]
async fn main() {}

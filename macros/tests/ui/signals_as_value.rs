#[handover_macros::main(handover_signals = "SIGHUP")]
async fn main() {}

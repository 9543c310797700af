#[handover_macros::main(handover_signals("SIGHUB"))]
async fn main() {}

#[handover_macros::main(stop_signals(SIGTERM))]
async fn main() {}

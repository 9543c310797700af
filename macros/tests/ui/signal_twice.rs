#[handover_macros::main(stop_signals("SIGTERM", "SIGTERM"))]
async fn main() {}

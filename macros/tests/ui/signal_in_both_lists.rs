#[handover_macros::main(handover_signals("SIGHUP"), stop_signals("SIGTERM", "SIGHUP"))]
async fn main() {}

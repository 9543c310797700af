#[handover_macros::main(stop_signals("SIGTERM", "SIGHUP"))]
async fn main() {}

#[handover_macros::main(stop_signals("SIGTERM", "SIGKILL", "SIGSTOP"))]
async fn main() {}

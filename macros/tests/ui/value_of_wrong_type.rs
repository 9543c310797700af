#[handover_macros::main(start_paused = "yes")]
async fn main() {}

#[handover_macros::main(drain_timeout = "30s" kill_grace = "5s")]
async fn main() {}

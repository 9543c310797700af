#[handover_macros::main(drain_timeout = "30s", kill_grace = "5s", drain_timeout = "1m")]
async fn main() {}

#[handover_macros::main(drain_timeout = "30s1m")]
async fn main() {}

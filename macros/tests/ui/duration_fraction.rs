#[handover_macros::main(drain_timeout = "1.5s")]
async fn main() {}

#[handover_macros::main(drain_timeout)]
async fn main() {}

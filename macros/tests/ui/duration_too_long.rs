#[handover_macros::main(drain_timeout = "9999999999999h")]
async fn main() {}

#[handover_macros::main(drain_timeout = "30sec")]
async fn main() {}

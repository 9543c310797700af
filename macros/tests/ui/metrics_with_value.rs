#[handover_macros::main(metrics = "127.0.0.1:9000")]
async fn main() {}

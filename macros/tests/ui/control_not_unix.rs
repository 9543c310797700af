#[handover_macros::main(control = "127.0.0.1:9000")]
async fn main() {}

#[handover_macros::main(ready_timeout = "0s")]
async fn main() {}

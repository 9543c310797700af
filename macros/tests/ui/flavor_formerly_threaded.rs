#[handover_macros::main(flavor = "threaded_scheduler")]
async fn main() {}

#[handover_macros::main(flavor = "basic_scheduler")]
async fn main() {}

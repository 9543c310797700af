#[handover_macros::main(flavor = "threads")]
async fn main() {}

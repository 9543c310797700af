#[handover_macros::main(flavor = "multi_thread", unhandled_panic = "ignore")]
async fn main() {}

#[handover_macros::main(current_thread)]
async fn main() {}

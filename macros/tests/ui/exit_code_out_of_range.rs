#[handover_macros::main(deadline_exit_code = 256)]
async fn main() {}

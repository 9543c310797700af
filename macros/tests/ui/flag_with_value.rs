#[handover_macros::main(systemd = true)]
async fn main() {}

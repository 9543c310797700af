#[handover_macros::main]
async fn main(_: (), _: u16) {}

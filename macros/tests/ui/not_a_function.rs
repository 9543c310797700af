#[handover_macros::main]
struct Service;

fn main() {}

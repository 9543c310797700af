#[handover_macros::main]
async unsafe extern "C" fn main() {}

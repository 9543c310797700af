#[path = "../stub/mod.rs"]
mod stub;

#[handover_macros::main(crate = "stub")]
async fn main(port: u16) {
    drop(port);
}

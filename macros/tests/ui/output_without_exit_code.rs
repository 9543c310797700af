#[path = "../stub/mod.rs"]
mod stub;

#[handover_macros::main(crate = "stub")]
async fn main() -> u16 {
    8080
}

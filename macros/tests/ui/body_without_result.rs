#[path = "../stub/mod.rs"]
mod stub;

#[handover_macros::main(crate = "stub")]
async fn main() -> Result<(), std::fmt::Error> {
    std::future::ready(()).await;
}

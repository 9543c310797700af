#[path = "../stub/mod.rs"]
mod stub;

#[handover_macros::main(crate = "stub", drain_timeout = "30s")]
async fn main(cx: stub::Context) -> Result<(), std::fmt::Error> {
    drop(cx);
    "served"
}

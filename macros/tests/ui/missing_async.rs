#[handover_macros::main]
fn main(cx: ()) {
    std::future::ready(cx).await;
}

#[handover_macros::main]
async fn main<T: Default>() {
    T::default();
}

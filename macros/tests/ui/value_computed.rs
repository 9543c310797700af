#[handover_macros::main(worker_threads = std::cmp::max(2, 4))]
async fn main() {}

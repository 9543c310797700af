struct Service;

impl Service {
    #[handover_macros::main]
    async fn run(self) {}
}

fn main() {}

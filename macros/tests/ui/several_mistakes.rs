#[handover_macros::main(flavor = "threads", drain_timeout = 30, ready_timout = "1m")]
fn main(_: (), _: ()) {}

//! What the tests, the `demo` example and the benches share: real processes and real loads.

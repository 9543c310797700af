//! Whatever a client says on the control socket is answered, or its connection ends.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|said: &[u8]| {
    handover::control::converse(said);
});

//! Whatever a client says, it is answered or disconnected, and nothing panics.

use proptest::prelude::*;

use super::fuzz::converse;
use super::lines::MAX_LINE;

#[test]
fn every_line_is_answered_in_turn() {
    let lines = converse(
        b"{\"request\":\"ping\",\"id\":1}\n\nnonsense\n{\"request\":\"fly\",\"id\":2}\n{\"request\":\"upgrade\"}\n{\"request\":\"abort\",\"id\":3}",
    );
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["id"].as_u64(), line["code"].as_str()))
        .collect();
    let expected = [
        (Some(1), None),
        (None, Some("malformed")),
        (Some(2), Some("unknown_request")),
        (None, Some("refused")),
        // It ends with the stream, and counts all the same.
        (Some(3), Some("nothing_drains")),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_line_that_is_too_long_is_the_last_one() {
    let mut said = vec![b'x'; 3 * MAX_LINE];
    said.extend_from_slice(b"\n{\"request\":\"ping\"}\n");
    let lines = converse(&said);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["code"], "too_long");
}

/// What a client could say that means well, badly, or nothing.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![
        Just("ping"),
        Just("status"),
        Just("upgrade"),
        Just("stop"),
        Just("abort"),
        Just("events"),
        Just("timeline"),
        Just("fly"),
    ];
    let name = prop_oneof![
        Just("id"),
        Just("wait"),
        Just("follow"),
        Just("own"),
        Just("protocol"),
        Just("generation"),
        Just("since_us"),
        Just("last"),
        Just("program"),
        Just("arguments"),
        Just("environment"),
        Just("timeout_ms"),
        Just("colour"),
    ];
    let value = prop_oneof![
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("\"begun\"".to_owned()),
        Just("\"/\\u0000\"".to_owned()),
        Just("[\"a\",[]]".to_owned()),
        Just("{\"a\":null,\"=\":1}".to_owned()),
        Just("[".repeat(500)),
        any::<u32>().prop_map(|number| number.to_string()),
    ];
    let fields = prop::collection::vec((name, value), 0..4);
    prop_oneof![
        4 => (request, fields).prop_map(|(request, fields)| {
            let fields = fields.iter().map(|(name, value)| format!(",\"{name}\":{value}"));
            format!("{{\"request\":\"{request}\"{}}}", fields.collect::<String>()).into_bytes()
        }),
        1 => any::<Vec<u8>>(),
        1 => Just(vec![b'"'; MAX_LINE + 1]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_said_is_answered(said in prop::collection::vec(line(), 0..8), end in any::<bool>()) {
        let mut bytes = said.join(&b'\n');
        if end {
            bytes.push(b'\n');
        }
        let lines = converse(&bytes);
        let last = lines.iter().filter(|line| line["type"] == "answer" || line["type"] == "error");
        let asked = bytes.split(|&byte| byte == b'\n').count();
        prop_assert!(last.count() <= asked);
    }
}

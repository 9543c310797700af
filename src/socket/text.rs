//! Bytes as text and back, without loss.
//!
//! Paths and abstract names are bytes; endpoints and messages are text. What is printable UTF-8
//! stays as it is, a backslash is doubled, every other byte becomes `\xNN`.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::Visitor;

/// Writes bytes as text.
pub(super) fn escape(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.write_str("\\\\")?;
            } else if c.is_control() {
                let mut buffer = [0; 4];
                escape_each(c.encode_utf8(&mut buffer).as_bytes(), out)?;
            } else {
                out.write_char(c)?;
            }
        }
        escape_each(chunk.invalid(), out)?;
    }
    Ok(())
}

/// Writes every byte as `\xNN`.
pub(super) fn escape_each(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| write!(out, "\\x{byte:02x}"))
}

/// Reads what [`escape`] wrote; `None` where a backslash begins neither `\\` nor `\xNN`.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Some(bytes),
            [b'\\', b'\\', tail @ ..] => {
                bytes.push(b'\\');
                rest = tail;
            }
            [b'\\', b'x', high, low, tail @ ..] => {
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                rest = tail;
            }
            [b'\\', ..] => return None,
            [byte, tail @ ..] => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Reads a value from its text, which is not kept.
pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: for<'a> From<&'a str>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: for<'a> From<&'a str>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E>(self, text: &str) -> Result<T, E> {
            Ok(T::from(text))
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut text = String::new();
        escape(bytes, &mut text).unwrap();
        text
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes: Vec<u8>) {
            prop_assert_eq!(unescape(&escaped(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            unescape(&text);
        }
    }

    #[test]
    fn what_is_printable_stays() {
        assert_eq!(escaped("/run/größe 1.sock".as_bytes()), "/run/größe 1.sock");
        assert_eq!(escaped(b"a\\b\n\xff\0"), "a\\\\b\\x0a\\xff\\x00");
    }

    #[test]
    fn a_lonely_backslash_is_refused() {
        for text in ["\\", "a\\n", "\\x1", "\\xgg", "\\x1\u{e9}"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}

//! Lines from a stream that may send anything.

/// What has arrived and is not taken yet: whole lines, and the beginning of another.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
}

/// A line is longer than any request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, searched: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end; empty ones are left out.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        loop {
            let end = self.bytes[self.searched..]
                .iter()
                .position(|&byte| byte == b'\n');
            let Some(end) = end.map(|end| end + self.searched) else {
                self.searched = self.bytes.len();
                return if self.bytes.len() > MAX_LINE {
                    Err(TooLong)
                } else {
                    Ok(None)
                };
            };
            if end > MAX_LINE {
                return Err(TooLong);
            }
            let rest = self.bytes.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.bytes, rest);
            self.searched = 0;
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// The last line, which ends with the stream.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        self.searched = 0;
        let rest = std::mem::take(&mut self.bytes);
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }

    /// What has arrived.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The longest request, in bytes: one with a whole environment fits.
pub(super) const MAX_LINE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_without_end_is_too_long_and_not_kept() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; MAX_LINE]);
        assert_eq!(lines.take(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.take(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn lines_come_out_whole_however_they_arrive(
            lines in prop::collection::vec("[a-z]{1,9}", 0..9),
            size in 1..7_usize,
        ) {
            let text = lines.iter().map(|line| format!("{line}\r\n\n")).collect::<String>();
            let mut found = Lines::default();
            let mut out = Vec::new();
            for part in text.as_bytes().chunks(size) {
                found.push(part);
                while let Some(line) = found.take().expect("they are short") {
                    out.push(String::from_utf8(line).expect("text"));
                }
            }
            prop_assert_eq!(out, lines);
            prop_assert!(found.bytes().is_empty());
        }
    }
}

//! Who answered.

use std::fmt;

/// The generation that gave an answer, as every example and fixture names itself in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its number along the chain of handovers.
    pub generation: u32,
    /// Its process.
    pub pid: u32,
}

impl Identity {
    /// Finds `pid=<pid> generation=<n>` at the start of a text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let pid = words.next()?.strip_prefix("pid=")?.parse().ok()?;
        let generation = words.next()?.strip_prefix("generation=")?.parse().ok()?;
        Some(Self { generation, pid })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid={} generation={}", self.pid, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn parses_what_it_prints_and_nothing_else() {
        let identity = Identity {
            generation: 3,
            pid: 42,
        };
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        assert_eq!(
            Identity::parse("pid=42 generation=3 more\n"),
            Some(identity)
        );
        for text in [
            "",
            "pid=42",
            "pid=x generation=3",
            "generation=3 pid=42",
            "hello",
        ] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}

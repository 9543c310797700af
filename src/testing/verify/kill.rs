//! What is killed in the middle of a restart.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A process that is killed (`SIGKILL`) in each restart: `successor@20ms`, `incumbent@random`.
///
/// The time counts from the trigger; before there is a successor nothing is killed, since nobody would be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Which one.
    pub victim: Victim,
    /// When.
    pub moment: Moment,
}

/// Which process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Victim {
    /// The one that is being started.
    Successor,
    /// The one that serves.
    Incumbent,
}

/// When it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment {
    /// So long after the trigger.
    After(Duration),
    /// At any time in which a restart can be expected to go on.
    Random,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Successor => "successor",
            Self::Incumbent => "incumbent",
        })
    }
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected `successor` or `incumbent`, `@`, and `random` or milliseconds, as in `successor@20ms`";
        let (victim, moment) = text
            .split_once('@')
            .ok_or_else(|| format!("no `@` in it, {expected}"))?;
        let victim = match victim {
            "successor" => Victim::Successor,
            "incumbent" => Victim::Incumbent,
            other => return Err(format!("`{other}` is no victim, {expected}")),
        };
        let moment = match moment {
            "random" => Moment::Random,
            other => {
                let millis = other
                    .strip_suffix("ms")
                    .and_then(|number| number.parse().ok());
                let millis = millis.ok_or_else(|| format!("`{other}` is no moment, {expected}"))?;
                Moment::After(Duration::from_millis(millis))
            }
        };
        Ok(Self { victim, moment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_victim_and_moment() {
        let kill = |text: &str| text.parse::<Kill>();
        assert_eq!(
            kill("successor@20ms"),
            Ok(Kill {
                victim: Victim::Successor,
                moment: Moment::After(Duration::from_millis(20))
            })
        );
        assert_eq!(kill("incumbent@random").unwrap().moment, Moment::Random);
        for (text, named) in [("x", "`@`"), ("x@random", "`x`"), ("successor@20", "`20`")] {
            assert!(kill(text).unwrap_err().contains(named), "{text}");
        }
    }
}

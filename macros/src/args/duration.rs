//! Durations as they are written in the attribute: `30s`, `500ms`, `1m30s`.

/// The units and their milliseconds, from the longest to the shortest.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration in milliseconds, else says what keeps `text` from being one.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut milliseconds = Some(0_u64);
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        if number.is_empty() {
            return Err(format!("expected a number at `{rest}`"));
        }
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        let position = units.iter().position(|(name, _)| *name == unit);
        let position = position.ok_or_else(|| not_a_unit(number, unit))?;
        let part = number.parse::<u64>().ok();
        let part = part.and_then(|part| part.checked_mul(units[position].1));
        milliseconds = milliseconds
            .zip(part)
            .and_then(|(sum, part)| sum.checked_add(part));
        units = &units[position + 1..];
        rest = after;
    }
    milliseconds.ok_or_else(|| "it is too long".to_owned())
}

fn split_where(text: &str, predicate: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(predicate).unwrap_or(text.len()))
}

fn not_a_unit(number: &str, unit: &str) -> String {
    match unit {
        "" => format!("`{number}` has no unit (`h`, `m`, `s` or `ms`)"),
        _ if unit.starts_with(['.', ',']) => {
            r#"a fraction takes the next unit, as in "1s500ms""#.to_owned()
        }
        _ if UNITS.iter().any(|(name, _)| *name == unit) => {
            format!("`{unit}` is out of order: from `h` to `ms`, each once")
        }
        _ => format!("unknown unit `{unit}` (there are `h`, `m`, `s` and `ms`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_the_sum_of_its_parts() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1m30s", 90_000),
            ("1h2m3s4ms", 3_723_004),
            ("1h1ms", 3_600_001),
            ("90m", 5_400_000),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(milliseconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, reason) in [
            ("", "it is empty"),
            ("30", "`30` has no unit (`h`, `m`, `s` or `ms`)"),
            ("1m30", "`30` has no unit (`h`, `m`, `s` or `ms`)"),
            ("s", "expected a number at `s`"),
            ("-1s", "expected a number at `-1s`"),
            (" 1s", "expected a number at ` 1s`"),
            (
                "1 s",
                "unknown unit ` s` (there are `h`, `m`, `s` and `ms`)",
            ),
            (
                "3sec",
                "unknown unit `sec` (there are `h`, `m`, `s` and `ms`)",
            ),
            ("1d", "unknown unit `d` (there are `h`, `m`, `s` and `ms`)"),
            (
                "3٣s",
                "unknown unit `٣s` (there are `h`, `m`, `s` and `ms`)",
            ),
            ("1.5s", r#"a fraction takes the next unit, as in "1s500ms""#),
            ("30s1m", "`m` is out of order: from `h` to `ms`, each once"),
            ("1s1s", "`s` is out of order: from `h` to `ms`, each once"),
            ("18446744073709551616ms", "it is too long"),
            (
                "18446744073709551615ms1s",
                "`s` is out of order: from `h` to `ms`, each once",
            ),
            ("1s18446744073709551615ms", "it is too long"),
            ("18446744073709551615h", "it is too long"),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
    }
}

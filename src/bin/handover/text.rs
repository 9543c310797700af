//! Numbers, times and tables as a person reads them.

use std::time::Duration;

/// A length of time, short: `40 µs`, `7.8 ms`, `12.3 s`, `4m 12s`, `3h 05m`, `2d 4h`.
pub(crate) fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if time < Duration::from_millis(1) => format!("{} µs", time.as_micros()),
        _ if time < Duration::from_secs(1) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ if seconds < 60 => format!("{:.1} s", time.as_secs_f64()),
        _ if seconds < 3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The same for a column: `1.2s`, `12s`, `4m12s`, `3h05m`, `2d04h`.
pub(crate) fn compact(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// From one moment to a later one, both in microseconds since boot.
pub(crate) fn since(from_us: u64, now_us: u64) -> String {
    length(Duration::from_micros(now_us.saturating_sub(from_us)))
}

pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The beginning of a text that is too long.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Columns as wide as what is in them. A title that begins with `>` is that of a column of numbers.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width_of = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let cells = cells.map(|cell| cell.chars().count());
        let title = titles[index].trim_start_matches('>').chars().count();
        cells.max().unwrap_or(0).max(title)
    };
    let widths: Vec<_> = (0..titles.len()).map(width_of).collect();
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let mut text = String::new();
        for (index, cell) in cells.enumerate() {
            let width = widths[index];
            match titles[index].starts_with('>') {
                true => text.push_str(&format!("{cell:>width$}  ")),
                false => text.push_str(&format!("{cell:<width$}  ")),
            }
        }
        text.truncate(text.trim_end().len());
        text
    };
    let titles = titles
        .iter()
        .map(|title| title.trim_start_matches('>').to_uppercase());
    let mut lines = vec![line(&mut titles.into_iter())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().cloned())));
    lines
}

/// A time as it is written on a command line: `30s`, `500ms`, `2m`, `1m30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(EXPECTED.to_owned()),
        };
        let number: u64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
        total += Duration::from_millis(number.checked_mul(factor).ok_or("it is too long")?);
        rest = after;
    }
    match total {
        Duration::ZERO => Err(EXPECTED.to_owned()),
        total => Ok(total),
    }
}

const EXPECTED: &str = "expected a time such as 30s, 500ms, 2m or 1m30s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        for (micros, text) in [
            (40, "40 µs"),
            (7_812, "7.8 ms"),
            (12_340_000, "12.3 s"),
            (252_000_000, "4m 12s"),
            (11_100_000_000, "3h 05m"),
            (187_200_000_000, "2d 4h"),
        ] {
            assert_eq!(length(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn times_of_the_command_line_have_units() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "0s",
            "1d",
            "99999999999999999h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}

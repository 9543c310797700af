//! The outcome as CI systems read it: a suite of the loads, and one of the handovers.

use std::fmt::Write;

use handover::testing::verify::{Ending, Outcome};

use super::report::load;

/// The document.
pub(super) fn document(outcome: &Outcome, allowed: u64) -> String {
    let mut loads = Vec::new();
    // What is allowed is allowed of all loads together.
    let lost = outcome.failed() > allowed;
    for row in &outcome.rows {
        let (failed, requests) = (row.counts.failed(), row.counts.requests());
        let problem = match (failed, row.counts.answered) {
            (0, 0) => Some("no request was answered".to_owned()),
            (1.., _) if lost => Some(format!("{failed} of {requests} requests failed")),
            _ => None,
        };
        loads.push((format!("{} {}", row.endpoint, load(row)), problem));
    }
    let mut handovers: Vec<_> = (outcome.handovers.iter())
        .map(|handover| {
            let problem = match &handover.ending {
                Ending::Failed { why } => Some(why.clone()),
                _ => None,
            };
            (format!("handover {}", handover.number), problem)
        })
        .collect();
    if let Some(why) = &outcome.ended_early {
        handovers.push(("end".to_owned(), Some(why.clone())));
    }
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"handover verify\">\n",
    );
    suite(&mut text, "loads", &loads, outcome.elapsed.as_secs_f64());
    suite(
        &mut text,
        "handovers",
        &handovers,
        outcome.elapsed.as_secs_f64(),
    );
    text.push_str("</testsuites>\n");
    text
}

/// The document where nothing could be verified.
pub(super) fn error(why: &str) -> String {
    let why = escape(why);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"handover verify\">\n  \
         <testsuite name=\"verify\" tests=\"1\" failures=\"0\" errors=\"1\">\n    \
         <testcase classname=\"verify\" name=\"start\"><error message=\"{why}\"/></testcase>\n  \
         </testsuite>\n</testsuites>\n"
    )
}

fn suite(text: &mut String, name: &str, cases: &[(String, Option<String>)], seconds: f64) {
    let failures = cases
        .iter()
        .filter(|(_, problem)| problem.is_some())
        .count();
    let mut add = |line: String| {
        // A String takes everything.
        writeln!(text, "{line}").ok();
    };
    add(format!(
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{seconds:.3}\">",
        cases.len()
    ));
    for (case, problem) in cases {
        let case = escape(case);
        match problem {
            None => add(format!(
                "    <testcase classname=\"{name}\" name=\"{case}\"/>"
            )),
            Some(problem) => {
                let problem = escape(problem);
                add(format!(
                    "    <testcase classname=\"{name}\" name=\"{case}\"><failure message=\"{problem}\"/></testcase>"
                ));
            }
        }
    }
    add("  </testsuite>".to_owned());
}

/// What XML allows in an attribute; control characters it does not allow at all.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            other if other.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_an_attribute() {
        assert_eq!(
            escape("a<b>&\"c\"\n\u{1b}"),
            "a&lt;b&gt;&amp;&quot;c&quot;&#10;\u{fffd}"
        );
    }
}

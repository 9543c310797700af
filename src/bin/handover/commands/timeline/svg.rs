//! A drawing of handovers, that a browser shows.

use std::fmt::Write;

use super::title;
use crate::model::{Handover, Span};
use crate::text::length;

/// One below the other.
pub(super) fn drawing(handovers: &[Handover]) -> String {
    let mut body = String::new();
    let mut top = MARGIN;
    for handover in handovers {
        top = one(&mut body, handover, top) + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" \
         viewBox=\"0 0 {WIDTH} {top}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{top}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws one from `top` on, and tells where it ends.
fn one(body: &mut String, handover: &Handover, top: u64) -> u64 {
    text(
        body,
        MARGIN,
        top + ROW - 6,
        &title(handover),
        "font-weight=\"bold\"",
    );
    for (place, side) in [(70, "incumbent"), (0, "successor")] {
        let attributes = format!("text-anchor=\"end\" fill=\"{}\"", colour(side));
        text(
            body,
            WIDTH - MARGIN - place,
            top + ROW - 6,
            side,
            &attributes,
        );
    }
    let mut y = top + ROW + 4;
    let (parts, whole) = handover.parts();
    for span in parts {
        row(body, span, y, whole);
        y += ROW;
    }
    let drained = handover.spans.iter().filter_map(|span| span.to_us).max();
    if let Some(drain) = handover.part("drain") {
        let end = drain.to_us.or(drained).unwrap_or(drain.from_us);
        let time = drain.length().map_or_else(|| "lasts".to_owned(), length);
        text(body, MARGIN, y + ROW - 6, "drain", "");
        curve(body, handover, drain.from_us, end, y);
        text(
            body,
            WIDTH - MARGIN,
            y + ROW - 6,
            &time,
            "text-anchor=\"end\"",
        );
        y += 2 * ROW;
    }
    if let Some(failure) = &handover.failure {
        text(
            body,
            MARGIN,
            y + ROW - 6,
            &failure.error,
            &format!("fill=\"{FAILED}\""),
        );
        y += ROW;
    }
    y
}

fn row(body: &mut String, span: &Span, y: u64, whole: u64) {
    let to = span.to_us.unwrap_or(whole);
    let (x, end) = (place(span.from_us, 0, whole), place(to, 0, whole));
    let colour = match span.failed {
        true => FAILED,
        false => colour(&span.by),
    };
    let indent = if span.component.is_some() { 12 } else { 0 };
    text(body, MARGIN + indent, y + ROW - 6, span.label().trim(), "");
    let time = span.length().map_or_else(|| "lasts".to_owned(), length);
    let width = end.saturating_sub(x).max(1);
    // A String takes whatever is written.
    writeln!(
        body,
        "<rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\" fill=\"{colour}\"><title>{} {time}</title></rect>",
        y + 3,
        ROW - 6,
        escaped(span.label().trim()),
    )
    .ok();
    text(
        body,
        WIDTH - MARGIN,
        y + ROW - 6,
        &time,
        "text-anchor=\"end\"",
    );
}

/// The connections that were left, as steps.
fn curve(body: &mut String, handover: &Handover, from: u64, to: u64, y: u64) {
    let most = handover.drain.iter().map(|left| left.connections).max();
    let most = most.unwrap_or(0).max(1);
    let bottom = y + 2 * ROW - 6;
    let height = 2 * ROW - 10;
    let mut points = String::new();
    let mut level = bottom;
    for left in &handover.drain {
        let x = place(left.at_us, from, to);
        let next = bottom - left.connections * height / most;
        write!(points, "{x},{level} {x},{next} ").ok();
        level = next;
    }
    let end = place(to, from, to);
    write!(points, "{end},{level} {end},{bottom}").ok();
    writeln!(
        body,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"#ef6c00\" stroke-width=\"1.5\"><title>{most} connections at most</title></polyline>"
    )
    .ok();
}

/// Of whose part.
fn colour(side: &str) -> &'static str {
    match side {
        "successor" => "#2e7d32",
        _ => "#1565c0",
    }
}

/// Where a moment is drawn.
fn place(at: u64, from: u64, to: u64) -> u64 {
    let (left, right) = (MARGIN + LABEL, WIDTH - MARGIN - TIME);
    let length = u128::from(to.saturating_sub(from).max(1));
    let at = u128::from(at.clamp(from, to.max(from)) - from);
    left + (at * u128::from(right - left) / length) as u64
}

fn text(body: &mut String, x: u64, y: u64, text: &str, attributes: &str) {
    let text = escaped(text);
    writeln!(body, "<text x=\"{x}\" y=\"{y}\" {attributes}>{text}</text>").ok();
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

const FAILED: &str = "#b00020";
const WIDTH: u64 = 960;
const MARGIN: u64 = 16;
const ROW: u64 = 20;
/// The room for names, and for times.
const LABEL: u64 = 180;
const TIME: u64 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_every_part_and_is_well_formed() {
        let drawing = drawing(&[super::super::tests::handover()]);
        for part in [
            "spawn",
            "exec",
            "init",
            "on_init Db &lt;1&gt;",
            "polyline",
            "2.5 s",
        ] {
            assert!(drawing.contains(part), "{part}:\n{drawing}");
        }
        let count = |what: &str| drawing.matches(what).count();
        assert_eq!(count("<text "), count("</text>"));
        assert_eq!(count("<rect "), count("</rect>") + 1);
        assert!(drawing.ends_with("</svg>\n"));
    }
}

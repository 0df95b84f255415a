//! The rates as a bar chart, in SVG.

use super::report::Report;
use std::fmt::Write;

/// Lengths in pixels.
const LEFT: f64 = 90.0;
const WIDTH: f64 = 560.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 56.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;

/// Events a second to their hits: one bar for each back end, on a logarithmic scale.
pub(super) fn svg(report: &Report) -> String {
    let bars: Vec<(&str, f64)> = report
        .rows
        .iter()
        .map(|row| (row.backend.name(), row.events as f64 / row.measured.hits.max(1e-9)))
        .filter(|(_, rate)| *rate > 0.0)
        .collect();
    let lowest = bars.iter().map(|(_, rate)| *rate).fold(f64::INFINITY, f64::min);
    let highest = bars.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let first = if lowest.is_finite() { lowest.log10().floor() } else { 0.0 };
    let last = highest.log10().ceil().max(first + 1.0);
    let x = |rate: f64| LEFT + (rate.log10() - first) / (last - first) * WIDTH;
    let bottom = TOP + bars.len() as f64 * STEP;
    let mut svg = String::new();
    let mut push = |line: std::fmt::Arguments| {
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "{line}");
    };
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom + 30.0);
    push(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">"#
    ));
    push(format_args!(r#"<rect width="{width}" height="{height}" fill="white"/>"#));
    let hits = report.rows.first().map_or(0.0, |row| row.answer.hits as f64 / row.events.max(1) as f64);
    push(format_args!(
        r#"<text x="{LEFT}" y="22" font-size="14">{}: {} rules, {hits:.2} hits an event; events/s from columns to hits</text>"#,
        report.subject, report.rules
    ));
    push(format_args!(
        r#"<text x="{LEFT}" y="40" fill="dimgray">{}; threads: {}, batches of {}</text>"#,
        escaped(&report.machine),
        report.threads,
        report.batch
    ));
    for power in first as i32..=last as i32 {
        let at = x(10_f64.powi(power));
        push(format_args!(r#"<line x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{bottom}" stroke="gainsboro"/>"#));
        push(format_args!(
            r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="dimgray">10<tspan dy="-5" font-size="9">{power}</tspan></text>"#,
            bottom + 18.0
        ));
    }
    for (index, (name, rate)) in bars.iter().enumerate() {
        let (y, end) = (TOP + index as f64 * STEP + 4.0, x(*rate));
        push(format_args!(r#"<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="{BAR}" fill="steelblue"/>"#, (end - LEFT).max(1.0)));
        push(format_args!(r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>"#, LEFT - 8.0, y + 13.0));
        push(format_args!(r#"<text x="{:.1}" y="{:.1}">{rate:.0}</text>"#, end + 6.0, y + 13.0));
    }
    push(format_args!("</svg>"));
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

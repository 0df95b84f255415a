//! The summary of a run, for people.

use super::matching::{Backend, Labels, Summary};
use super::windows;
use crate::id::RuleId;
use crate::tables::Artifact;
use crate::tables::artifact::{ACTIONS, STATUSES};
use crate::temporal::patterns::Counters;
use crate::temporal::spill::Spilled;
use std::io::{self, Write};
use std::time::Duration;

/// Rules shown in the summary; `--emit counts` has them all.
const RULES_SHOWN: usize = 40;

/// Outcomes shown in the summary.
const OUTCOMES_SHOWN: usize = 15;

/// Thousandths as a decimal, without zeros at the end.
#[must_use]
pub fn thousandths(units: i128) -> String {
    let text = format!("{}{}.{:03}", if units < 0 { "-" } else { "" }, units.unsigned_abs() / 1000, units.unsigned_abs() % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes the summary.
///
/// # Errors
/// When `out` cannot be written.
pub fn summary(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    rules(summary, out)?;
    writeln!(out, "\nevents {}  hits {}  ({:.2} an event)", summary.rows, summary.hits, summary.hits as f64 / summary.rows.max(1) as f64)?;
    if summary.rejected > 0 {
        writeln!(
            out,
            "rejected {} {} that could not be read (see which and why with --rejects FILE)",
            summary.rejected,
            if summary.rejected == 1 { "row" } else { "rows" }
        )?;
    }
    if let Some(counters) = &summary.patterns {
        patterns(summary.findings, counters, out)?;
    }
    if let Some(counters) = &summary.windows {
        let late = if counters.late > 0 { format!(", {} rows later than allowed", counters.late) } else { String::new() };
        let untimed = if counters.untimed > 0 { format!(", {} without a time", counters.untimed) } else { String::new() };
        writeln!(out, "windows: {} keys with {} rows held at the end{late}{untimed}", counters.keys, counters.rows)?;
        unknown(counters, &summary.artifact, out)?;
    }
    let Spilled { out: away, back, bytes } = summary.spilled;
    if away > 0 {
        writeln!(
            out,
            "memory: {away} times the state of a key went to disk, and {back} times it came back; {bytes} bytes are there at the end"
        )?;
    }
    if let Some(state) = &summary.state {
        let from = state.from.map_or(String::new(), |(number, row)| format!(", gone on from snapshot {number} at row {row}"));
        let (number, row) = state.last;
        writeln!(out, "state: snapshot {number} at row {row} in {}{from}", state.folder.display())?;
    }
    let decisions: Vec<String> = ACTIONS.iter().zip(summary.actions).rev().map(|(action, count)| format!("{action} {count}")).collect();
    writeln!(out, "decisions: {}", decisions.join("  "))?;
    outcomes(summary, out)?;
    if let Some(labels) = &summary.labels {
        quality(labels, out)?;
    }
    times(summary, out)
}

/// What patterns found, and what did not go as rules and rows say.
fn patterns(findings: u64, counters: &Counters, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "findings {findings}")?;
    for (count, what) in [
        (counters.late, "events came too late for patterns (wait longer with --allowed-lateness; see them with --late FILE)"),
        (counters.untimed, "events have no time, and are in no pattern that is ordered by it"),
        (counters.troubles.skips, "matches have no row to skip to but their first: the search went on at the next row"),
        (counters.troubles.given_up, "searches took too many steps, and were given up (--steps-per-match)"),
        (counters.troubles.over_key, "searches were given up because their key held too much (--state-per-key)"),
        (counters.troubles.over_tenant, "searches were given up because their tenant held too much (--state-per-tenant)"),
    ] {
        if count > 0 {
            writeln!(out, "  {count} {what}")?;
        }
    }
    Ok(())
}

/// Which windows were not known because limits were reached.
fn unknown(counters: &windows::Counters, artifact: &Artifact, out: &mut dyn Write) -> io::Result<()> {
    for (count, what) in [
        (counters.troubles.over_key, "times a key held too much, and dropped its older rows (--state-per-key)"),
        (
            counters.troubles.over_tenant,
            "times a key dropped its rows or was turned away, as its tenant held too much (--state-per-tenant)",
        ),
    ] {
        if count > 0 {
            writeln!(out, "  {count} {what}")?;
        }
    }
    for (name, count) in windows::names(artifact).zip(&counters.unknown).filter(|(_, count)| **count > 0) {
        writeln!(out, "  {count} values of {name} were NULL: rows were missing that its frame may have had")?;
    }
    Ok(())
}

fn rules(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let artifact = &summary.artifact;
    let mut order: Vec<usize> = (0..summary.counts.len()).collect();
    order.sort_by_key(|rule| (std::cmp::Reverse(summary.counts[*rule]), *rule));
    let width =
        order.iter().take(RULES_SHOWN).map(|rule| artifact.rule_name(RuleId::new(*rule)).chars().count()).max().unwrap_or(4).clamp(4, 48);
    let precision = if summary.labels.is_some() { "  precision" } else { "" };
    writeln!(out, "{:<width$}  {:>9}  {:<9}  {:<6}{precision}", "rule", "hits", "action", "status")?;
    for &rule in order.iter().take(RULES_SHOWN) {
        let record = artifact.rule(RuleId::new(rule));
        let hits = summary.counts[rule];
        let precision = match &summary.labels {
            Some(labels) if hits > 0 => format!("  {:>8.1}%", labels.true_hits[rule] as f64 / hits as f64 * 100.0),
            _ => String::new(),
        };
        let (action, status) = (ACTIONS[usize::from(record.action)], STATUSES[usize::from(record.status)]);
        writeln!(out, "{:<width$}  {hits:>9}  {action:<9}  {status:<6}{precision}", artifact.rule_name(RuleId::new(rule)))?;
    }
    if order.len() > RULES_SHOWN {
        let rest: u64 = order[RULES_SHOWN..].iter().map(|rule| summary.counts[*rule]).sum();
        writeln!(out, "{:<width$}  {rest:>9}  (all with --emit counts)", format!("… {} more rules", order.len() - RULES_SHOWN))?;
    }
    Ok(())
}

fn outcomes(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    if summary.outcomes.is_empty() {
        return Ok(());
    }
    let mut ranked: Vec<(&String, i128)> = summary.outcomes.iter().map(|(outcome, score)| (outcome, *score)).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    writeln!(out, "outcomes by summed score:")?;
    for (outcome, score) in ranked.iter().take(OUTCOMES_SHOWN) {
        writeln!(out, "  {:<40} {:>14}", outcome, thousandths(*score))?;
    }
    if ranked.len() > OUTCOMES_SHOWN {
        writeln!(out, "  … {} more", ranked.len() - OUTCOMES_SHOWN)?;
    }
    Ok(())
}

fn quality(labels: &Labels, out: &mut dyn Write) -> io::Result<()> {
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    writeln!(
        out,
        "against {}: precision {} ({} of {} flagged), recall {}: {} of {} caught, {} missed",
        labels.field,
        percent(labels.precision()),
        labels.flagged_true,
        labels.flagged_true + labels.flagged_false,
        percent(labels.recall()),
        labels.flagged_true,
        labels.flagged_true + labels.missed,
        labels.missed
    )?;
    if labels.unknown > 0 {
        writeln!(out, "  ({} events have no label)", labels.unknown)?;
    }
    Ok(())
}

fn times(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let routed = summary.routed;
    let used = match summary.backend {
        Backend::Reference => "reference".to_owned(),
        _ => {
            let mut parts = Vec::new();
            for (count, name) in [(routed.cpu_batches, "cpu"), (routed.gpu_batches, "gpu"), (routed.split_batches, "gpu and cpu")] {
                if count > 0 {
                    parts.push(format!("{name} ({count} batches)"));
                }
            }
            if routed.fallbacks > 0 {
                parts.push(format!("cpu in place of the gpu ({} batches)", routed.fallbacks));
            }
            if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
        }
    };
    writeln!(out, "back end: {used}; {}", summary.reason)?;
    let seconds = summary.wall.as_secs_f64();
    let rate = if seconds > 0.0 { summary.rows as f64 / seconds } else { 0.0 };
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    writeln!(
        out,
        "{:.0} events/s over {} with {} threads (rules ready after {})",
        rate,
        ms(summary.wall),
        summary.threads,
        ms(summary.prepare)
    )?;
    let times = summary.times;
    writeln!(
        out,
        "stages, summed over threads: read {}, encode {}, match {}, decide {}, write {}",
        ms(times.read),
        ms(times.encode),
        ms(times.matching),
        ms(times.decide),
        ms(times.write)
    )
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn thousandths_keep_their_sign_and_lose_their_zeros() {
        let texts: Vec<String> = [0, 5, -5, 1000, -1500, 35_000, 1_234_567].into_iter().map(thousandths).collect();
        assert_eq!(texts, ["0", "0.005", "-0.005", "1", "-1.5", "35", "1234.567"]);
    }
}

//! `snapshot inspect`: what is in a folder of snapshots, and whether it is sound.

use super::Failure;
use crate::connector::snapshots::Snapshots;
use crate::connector::store::Store;
use crate::rule::window::length;
use crate::snapshot::{Chunk, Manifest};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Writes what the snapshots in `path` hold, the newest first; as JSON their manifests. Every checksum is checked.
///
/// # Errors
/// No snapshots, or one that is damaged: after all of them are shown.
pub fn inspect(path: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let folder = Snapshots::look(Store::Folder(path.to_owned()));
    let numbers = folder.numbers()?;
    if numbers.is_empty() {
        return Err(format!("{}: there are no snapshots", path.display()).into());
    }
    let mut problems = Vec::new();
    let mut sound = Vec::new();
    for number in numbers {
        match folder.manifest(number) {
            Ok(manifest) => {
                let chunks: BTreeSet<&str> = manifest.chunks().map(|chunk| chunk.hash.as_str()).collect();
                let wrong = manifest.chunks().filter_map(|chunk| folder.check(chunk).err());
                let wrong: BTreeSet<String> = wrong.map(|unusable| format!("snapshot {number}: {unusable}")).collect();
                if !json {
                    let state = if wrong.is_empty() { "sound" } else { "damaged" };
                    show(&manifest, chunks.len(), state, out)?;
                }
                problems.extend(wrong);
                sound.push(manifest);
            }
            Err(unusable) => problems.push(format!("snapshot {number}: {unusable}")),
        }
    }
    if json {
        let text = serde_json::to_string_pretty(&sound).map_err(|error| error.to_string())?;
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    if problems.is_empty() { Ok(()) } else { Err(format!("{}: {}", path.display(), problems.join("; ")).into()) }
}

fn show(manifest: &Manifest, chunks: usize, state: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let sum = |of: fn(&Chunk) -> u64| manifest.chunks().map(of).sum::<u64>();
    writeln!(
        out,
        "snapshot {}   {state}: {chunks} chunks, {} bytes of {}",
        manifest.number,
        sum(|chunk| chunk.packed),
        sum(|chunk| chunk.bytes)
    )?;
    writeln!(out, "  written by   dynamic-cep {}", manifest.program)?;
    writeln!(out, "  generation   {}", manifest.generation)?;
    let lateness = if manifest.allowed_lateness == 0 { "none".to_owned() } else { length(manifest.allowed_lateness) };
    writeln!(out, "  read         {} rows, with {lateness} of lateness allowed", manifest.rows)?;
    for source in &manifest.sources {
        writeln!(out, "    {}: {} rows (of a file of {} bytes)", source.name, source.rows, source.bytes)?;
    }
    for part in manifest.parts.iter().filter(|part| !part.name.starts_with(CHUNKS_OF_PATTERNS)) {
        if let Some(groups) = part.head.get("groups").and_then(serde_json::Value::as_array) {
            patterns(manifest, &part.name, groups, out)?;
            continue;
        }
        let number = |name: &str| part.head.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let bytes: u64 = part.chunks.iter().map(|chunk| chunk.packed).sum();
        match part.head.get("windows").and_then(serde_json::Value::as_array) {
            Some(windows) => {
                writeln!(out, "  {}    {} keys with {} rows, {bytes} bytes", part.name, number("keys"), number("rows"))?;
                for window in windows {
                    writeln!(out, "    {}", window["definition"].as_str().unwrap_or_default())?;
                }
            }
            None => writeln!(out, "  {}        {} rows wait for earlier ones, {bytes} bytes", part.name, number("waiting"))?,
        }
    }
    Ok(())
}

/// What the parts that hold keys and searches of patterns are called.
const CHUNKS_OF_PATTERNS: &str = "patterns/";

/// Rules named at most, of those that share their keys.
const NAMED: usize = 10;

/// The state of patterns: one part says whose it is, and others hold it.
fn patterns(manifest: &Manifest, name: &str, groups: &[serde_json::Value], out: &mut dyn Write) -> Result<(), Failure> {
    let parts = manifest.parts.iter().filter(|part| part.name.starts_with(CHUNKS_OF_PATTERNS));
    let bytes: u64 = parts.flat_map(|part| &part.chunks).map(|chunk| chunk.packed).sum();
    writeln!(out, "  {name}     {bytes} bytes")?;
    for members in groups.iter().filter_map(|group| group.get("members")?.as_array()) {
        let rules: Vec<&str> = members.iter().filter_map(|member| member.get("rule")?.as_str()).collect();
        let more = if rules.len() > NAMED { format!(", and {} more", rules.len() - NAMED) } else { String::new() };
        writeln!(out, "    over the same keys: {}{more}", rules[..rules.len().min(NAMED)].join(", "))?;
    }
    Ok(())
}

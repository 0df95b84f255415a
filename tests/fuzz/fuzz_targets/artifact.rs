//! Damage to an artifact, with its checksums repaired: it is refused, or used without a panic.
//!
//! The input is a list of changes to a sound artifact, eight bytes each: section, operation, position, value. An input that starts with 0xff is an artifact as it stands.

#![no_main]

use dynamic_cep::decide::decide;
use dynamic_cep::engine::Generation;
use dynamic_cep::event::EventBatch;
use dynamic_cep::id::RuleId;
use dynamic_cep::matcher::cpu::{self, Isa, Visit};
use dynamic_cep::matcher::{Found, plain};
use dynamic_cep::tables::Artifact;
use dynamic_cep::tables::artifact::{ArtifactWriter, SOURCE_BLOCK, Section};
use dynamic_cep_fuzz::{batch, compiled, rule};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

/// The sections of a sound artifact with everything in it: several levels of nodes, lists, residuals, derived columns, tenants, keys of every kind.
static SECTIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut rules: Vec<_> = (0..600).map(|n| rule(&format!("r{n}"), &format!("a = {} AND b > {} AND m < {n}.5", n % 40, n % 7))).collect();
    for (n, when) in [
        "s IN LIST k AND a IN (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21)",
        "s LIKE '%a%' AND a > 1",
        "a < b AND t = 'ab' OR u > 5",
        "a + b > 10 AND LENGTH(s) = 2",
        "n BETWEEN -1.5 AND 1.5 AND p",
        "d > DATE '2020-01-01' AND w < TIMESTAMP '2030-01-01' OR x / y > 1.5",
        "EXTRACT(HOUR FROM w) IN (1, 2, 3) AND LOWER(s) > 'a'",
        "s ~ '^a+' OR CASE WHEN p THEN a = 1 ELSE q END",
        "NOT (v IS NULL) AND z IS NOT NULL",
        "TRUE",
    ]
    .into_iter()
    .enumerate()
    {
        let mut rule = rule(&format!("s{n}"), when);
        rule.tenant = (n % 2 == 0).then(|| "a".into());
        rule.tags = vec!["tag".into()];
        rule.outcome = Some("out".into());
        rules.push(rule);
    }
    let compiled = compiled(rules);
    let bytes = compiled.artifact.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics));
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize;
    // A header of 64 bytes, then 40 for each section: kind, reserved, offset, length, checksum.
    (0..Section::ALL.len()).map(|nth| 64 + nth * 40 + 8).map(|entry| bytes[word(entry)..][..word(entry + 8)].to_vec()).collect()
});

static BATCH: LazyLock<EventBatch> = LazyLock::new(|| {
    let bytes: Vec<u8> = (0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    batch(&bytes, 20)
});

fn change(content: &mut Vec<u8>, operation: u8, position: usize, value: [u8; 4]) {
    if content.is_empty() {
        return content.extend(value);
    }
    match operation % 8 {
        0 => content.truncate(position % (content.len() + 1)),
        1 => content.extend(value),
        2 => {
            let at = position % content.len();
            content[at] = value[0];
        }
        3 => {
            let at = position % content.len();
            content[at] ^= 1 << (value[0] % 8);
        }
        4 => {
            let at = position % content.len();
            content.insert(at, value[0]);
        }
        5 => {
            let at = position % content.len();
            content.remove(at);
        }
        // Whole words: the value, or one of those that hurt.
        kind => {
            let at = position * 4 % content.len();
            let word = if kind == 6 { value } else { [0, 1, u32::MAX, u32::MAX - 1][usize::from(value[0] % 4)].to_le_bytes() };
            content.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = new);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.strip_prefix(&[0xff]) {
        return exercise(bytes);
    }
    let mut sections = SECTIONS.clone();
    for edit in data.chunks_exact(8).take(16) {
        let position = usize::from(u16::from_le_bytes([edit[2], edit[3]]));
        let nth = usize::from(edit[0]) % sections.len();
        change(&mut sections[nth], edit[1], position, [edit[4], edit[5], edit[6], edit[7]]);
    }
    let mut writer = ArtifactWriter::default();
    Section::ALL.iter().zip(&sections).for_each(|(section, content)| writer.add(*section, content));
    exercise(&writer.finish());
});

fn exercise(bytes: &[u8]) {
    let Ok(artifact) = Artifact::from_bytes(bytes) else { return };
    for number in 0..artifact.rules().len() {
        let rule = RuleId::new(number);
        assert!(artifact.rule_name(rule).len() + artifact.tags(rule).count() < bytes.len());
    }
    for block in 0..artifact.rules().len().div_ceil(SOURCE_BLOCK) {
        let _ = artifact.source_block(block);
    }
    let Ok(generation) = Generation::new(Arc::new(artifact)) else { return };
    let artifact = generation.artifact();
    // The events are those of the schema that the rules were compiled for; another schema has others.
    let batch = if artifact.schema().fields() == dynamic_cep_fuzz::SCHEMA.fields() {
        BATCH.clone()
    } else {
        EventBatch::new(artifact.schema(), 0, 3, vec![None; artifact.schema().fields().len()])
    };
    let tables = artifact.tables();
    let mut cache = Default::default();
    let encoded = generation.encode(&batch, &mut cache);
    let mut found = plain::candidates(&tables, &encoded);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        cpu::candidates_by(isa, &tables, &encoded, Visit::Both, &mut found);
    }
    let mut found = Found::of(&tables, &found);
    found.rules.append(&mut cpu::rules(&tables, &encoded, Visit::Both).rules);
    let decisions = decide(&generation.verify(&batch, found, &mut cache), artifact.rules());
    assert_eq!(decisions.actions.len(), batch.rows());
}

//! A byte that chooses the kind of file, and the file: a document, or bulk rules. What is read is compiled.

#![no_main]

use bytes::Bytes;
use dynamic_cep::rule::bulk::RuleRows;
use dynamic_cep::rule::document::parse_document;
use dynamic_cep::rule::{Diagnostic, Rule};
use dynamic_cep_fuzz::{LIMITS, compiled};
use libfuzzer_sys::fuzz_target;

/// The files that a document may name.
fn read(name: &str) -> std::io::Result<Bytes> {
    Ok(Bytes::from_static(match name {
        "i.csv" => b"id,lo,who\ni1,1,a\ni2,x,b\n,3,\"c\"\"\"\n",
        "i.ndjson" => b"{\"id\":\"j1\",\"lo\":4,\"who\":\"d\"}\n{\"lo\":null}\n",
        "l.txt" => b"one\ntwo\n\n3\n",
        _ => return Err(std::io::ErrorKind::NotFound.into()),
    }))
}

fn drain(rows: RuleRows, rules: &mut Vec<Rule>, diagnostics: &mut Vec<Diagnostic>) {
    for mut chunk in rows {
        rules.append(&mut chunk.rules);
        diagnostics.append(&mut chunk.diagnostics);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else { return };
    let (mut rules, mut diagnostics) = (Vec::new(), Vec::new());
    match kind % 5 {
        document @ (0 | 1) => {
            let file = if document == 0 { "r.yaml" } else { "r.json" };
            let (document, problems) = parse_document(file, content, &read, &LIMITS);
            diagnostics = problems;
            rules = document.rules;
            document.instances.into_iter().for_each(|rows| drain(rows, &mut rules, &mut diagnostics));
        }
        bulk => {
            let file = ["r.csv", "r.ndjson", "r.parquet"][usize::from(bulk) - 2];
            match RuleRows::open(file, Bytes::copy_from_slice(content), &LIMITS) {
                Ok(rows) => drain(rows, &mut rules, &mut diagnostics),
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        }
    }
    diagnostics.extend(compiled(rules).diagnostics);
    // Every diagnostic can be shown.
    diagnostics.iter().for_each(|diagnostic| assert!(!diagnostic.to_string().is_empty()));
});

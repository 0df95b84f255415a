//! Bytes as a condition, a zero byte, and bytes of rows.
//!
//! Whatever the text is, it is typed or refused. A typed one prints to a text that reads back as the same, and the tables made of it agree with the oracle
//! on every row.

#![no_main]

use dynamic_cep::expr::oracle::Oracle;
use dynamic_cep::rule::{Limits, Origin, check, print};
use dynamic_cep::tables::Artifact;
use dynamic_cep_fuzz::{LIMITS, LISTS, SCHEMA, batch, compiled, hits, rule};
use libfuzzer_sys::fuzz_target;

const ROWS: usize = 6;

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    let mut scope = check::Scope { schema: &SCHEMA, lists: &LISTS, parameters: &[], limits: &LIMITS, windows: &[] };
    let Ok(expr) = check::condition(text, &Origin::default(), None, &scope) else { return };

    let printed = print::condition(&expr, &SCHEMA);
    let unlimited = Limits::unlimited();
    scope.limits = &unlimited;
    let again = match check::condition(&printed, &Origin::default(), None, &scope) {
        Ok(again) => again,
        Err(diagnostics) => panic!("{text:?} is printed as {printed:?}, which is refused: {}", diagnostics[0]),
    };
    assert_eq!(print::condition(&again, &SCHEMA), printed, "{text:?} is not printed in one form");

    let Some(artifact) = compiled(vec![rule("r", text)]).artifact else { panic!("{text:?} is typed, but does not compile") };
    let batch = batch(data.get(end + 1..).unwrap_or_default(), ROWS);
    let hits = hits(Artifact::from_bytes(&artifact).expect("what compile writes can be read"), &batch);
    let (oracle, oracle_again) = (Oracle::new(&expr), Oracle::new(&again));
    for row in 0..ROWS {
        let values = batch.row(&SCHEMA, row);
        let holds = oracle.holds(&values);
        assert_eq!(oracle_again.holds(&values), holds, "{text:?} and {printed:?} differ for {values:?}");
        assert_eq!(!hits.row(row).is_empty(), holds, "the tables of {text:?} differ from the oracle for {values:?}");
    }
});

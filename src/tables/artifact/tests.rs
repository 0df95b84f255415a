//! Artifacts that are damaged, with checksums that hold: whoever wrote them, they are refused, or used without running out of bounds.

use super::*;
use crate::compile::{Context, compile};
use crate::event::Value;
use crate::expr::Node;
use crate::rule::lists::Lists;
use crate::rule::{Action, Limits, Origin, Rule, Status};

const SCHEMA: &str = "fields: {a: int64, b: int64, s: utf8}";

/// The sections of an artifact with thresholds, a derived column and a residual.
fn sections() -> Vec<Vec<u8>> {
    let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema");
    let rules = ["a > 1 AND a < 5", "a + b > 10", "a > 7 AND (b LIKE '1%' OR s LIKE '%x%')", "a IS NULL"].map(|when| Rule {
        id: when.into(),
        tenant: None,
        when: when.replace("b LIKE", "s LIKE").into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 0,
        action: Action::Allow,
        status: Status::Live,
        tags: Vec::new(),
        outcome: None,
        clause: crate::rule::Clause::default(),
        tests: Vec::new(),
    });
    let (lists, limits) = (Lists::new(), Limits { terms: 1, ..Limits::default() });
    let compiled = compile(rules.into_iter(), &Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 });
    let artifact = Artifact::from_bytes(&compiled.artifact.expect("sound rules")).expect("a sound artifact");
    Section::ALL.iter().map(|section| artifact.bytes(*section).to_vec()).collect()
}

fn open(sections: &[Vec<u8>]) -> Result<Artifact, ArtifactError> {
    let mut writer = ArtifactWriter::default();
    Section::ALL.iter().zip(sections).for_each(|(section, content)| writer.add(*section, content));
    Artifact::from_bytes(&writer.finish())
}

fn of(sections: &mut [Vec<u8>], section: Section) -> &mut Vec<u8> {
    &mut sections[section as usize - 1]
}

#[track_caller]
fn refused(sections: &[Vec<u8>], what: &str) {
    let error = open(sections).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(what), "{error:?} does not name {what:?}");
}

#[test]
fn what_compile_writes_is_sound() {
    let artifact = open(&sections()).expect("undamaged");
    assert!(artifact.manifest().columns.iter().any(|column| matches!(column.source, ColumnSource::Derived(_))));
    assert!(!artifact.residuals().expect("sound residuals").is_empty());
}

#[test]
fn thresholds_that_do_not_ascend_are_refused() {
    let mut sections = sections();
    of(&mut sections, Section::NarrowKeys)[..8].fill(0xff);
    refused(&sections, "order of the thresholds");
}

#[test]
fn an_expression_of_another_type_than_its_column_is_refused() {
    let mut sections = sections();
    let mut manifest: Manifest = postcard::from_bytes(of(&mut sections, Section::Manifest)).expect("a manifest");
    for column in &mut manifest.columns {
        if let ColumnSource::Derived(expr) = &mut column.source {
            *expr = Expr::new();
            expr.push(Node::Field(FieldId(2)), Type::Text);
        }
    }
    *of(&mut sections, Section::Manifest) = postcard::to_stdvec(&manifest).expect("a manifest");
    refused(&sections, "kind of a column's keys");
}

#[test]
fn a_residual_with_a_node_of_a_wrong_type_is_refused() {
    let field = |ty| {
        let mut expr = Expr::new();
        let field = expr.push(Node::Field(FieldId(0)), ty);
        expr.push(Node::IsNull(field), Type::Bool);
        expr
    };
    let mut constant = Expr::new();
    constant.push(Node::Constant(Value::Int(1)), Type::Bool);
    let mut number = Expr::new();
    number.push(Node::Field(FieldId(0)), Type::Int);
    for (expr, sound) in [(field(Type::Int), true), (field(Type::Text), false), (constant, false), (number, false)] {
        let mut sections = sections();
        let bytes = postcard::to_stdvec(&expr).expect("an expression");
        let ends: Vec<u64> = (0..of(&mut sections, Section::ResidualOffsets).len() as u64 / 8)
            .map(|nth| if nth == 0 { 0 } else { bytes.len() as u64 })
            .collect();
        *of(&mut sections, Section::ResidualOffsets) = bytemuck::cast_slice(&ends).to_vec();
        *of(&mut sections, Section::ResidualBytes) = bytes;
        let residuals = open(&sections).expect("residuals are looked at later").residuals();
        assert_eq!(residuals.is_ok_and(|residuals| residuals[0] == expr), sound, "{expr:?}");
    }
}

#[test]
fn a_lane_without_a_rule_that_may_hold_is_refused() {
    let mut sections = sections();
    let rules: &mut [u32] = bytemuck::cast_slice_mut(of(&mut sections, Section::TermRules));
    rules.iter_mut().for_each(|rule| *rule = NONE);
    refused(&sections, "a lane without a rule");
}

#[test]
fn bitmaps_that_lead_elsewhere_are_refused() {
    let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema");
    let rules = (0..1100).map(|nth| Rule {
        id: format!("r{nth}").into(),
        tenant: None,
        when: format!("a BETWEEN {nth} AND {} AND b BETWEEN {} AND {}", nth + 700, nth / 2, nth / 2 + 400).into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 0,
        action: Action::Allow,
        status: Status::Live,
        tags: Vec::new(),
        outcome: None,
        clause: crate::rule::Clause::default(),
        tests: Vec::new(),
    });
    let (lists, limits) = (Lists::new(), Limits::default());
    let compiled = compile(rules, &Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 });
    let artifact = Artifact::from_bytes(&compiled.artifact.expect("sound rules")).expect("a sound artifact");
    let sound: Vec<Vec<u8>> = Section::ALL.iter().map(|section| artifact.bytes(*section).to_vec()).collect();
    assert!(artifact.tables().bitmap_tiles.len() > 1);
    for (section, byte, message) in [
        (Section::NodeBitmaps, 4, "a tile of bitmaps"),
        (Section::BitmapTiles, 3, "a tile of bitmaps"),
        (Section::BitmapColumns, 1, "a bitmap of a column that is not there"),
        (Section::NodeChildren, 0, "children of a node with bitmaps"),
    ] {
        let mut sections = sound.clone();
        of(&mut sections, section)[byte] ^= 1 << 4;
        let error = open(&sections).expect_err(message).to_string();
        assert!(error.contains(message) || error.contains("a segment"), "{section:?}: {error}");
    }
    // The second node has three groups: a bit of the fourth leads beyond them.
    let mut sections = sound;
    let first = artifact.tables().bitmap_tiles[1].first_bitmap as usize * size_of::<Bitmap>();
    of(&mut sections, Section::Bitmaps)[first + 100] |= 1;
    refused(&sections, "a bitmap beyond the groups of its node");
}

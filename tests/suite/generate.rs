//! Random schemas, rules as text, and batches that lean on the rules' own constants and their neighbours.

mod batch;
mod condition;
mod pool;

pub use batch::batch;
pub use condition::Writer;
pub use pool::Pool;

use crate::random::Random;
use dynamic_cep::event::{Field, Schema, TimeUnit, Type};
use dynamic_cep::id::FieldId;
use dynamic_cep::rule::{Action, Origin, Rule, Status};
use std::sync::Arc;

/// Tenants that rules and events name. Integer tenants are written as such.
const TENANTS: [&str; 6] = ["acme", "7", "-3", "Ünï", "", "18446744073709551615"];

/// What a case is made of: a schema, the constants that its rules and events share, and the rules.
pub struct Case {
    pub schema: Schema,
    pub pool: Pool,
    pub rules: Vec<Rule>,
}

impl Case {
    /// `rules` random rules over a random schema.
    pub fn new(random: &mut Random, rules: usize) -> Self {
        let schema = schema(random);
        let pool = Pool::new(random);
        let mut case = Self { schema, pool, rules: Vec::with_capacity(rules) };
        let mut writer = Writer::new(&case.schema, &case.pool, random);
        let conditions: Vec<String> = (0..rules).map(|_| writer.rule()).collect();
        case.rules = conditions.into_iter().enumerate().map(|(number, when)| rule(random, &case.schema, number, when)).collect();
        case
    }

    /// The same with these conditions instead of random ones; tenants, scores and actions are random.
    pub fn of_conditions(random: &mut Random, schema: Schema, conditions: impl Iterator<Item = String>) -> Self {
        let rules = conditions.enumerate().map(|(number, when)| rule(random, &schema, number, when)).collect();
        Self { schema, pool: Pool::new(random), rules }
    }
}

/// A rule of this condition; everything else about it is random.
fn rule(random: &mut Random, schema: &Schema, number: usize, when: String) -> Rule {
    let tenant = schema.tenant.filter(|_| random.one_in(2)).map(|_| Arc::from(*random.pick(&TENANTS)));
    let actions = [Action::Allow, Action::Review, Action::Challenge, Action::Block];
    let statuses = [Status::Live, Status::Live, Status::Live, Status::Live, Status::Shadow, Status::Off];
    let scores = [0, 1500, -250, 35_000, i64::MAX, i64::MIN, 1];
    Rule {
        id: format!("rule-{number}").into(),
        tenant,
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: *random.pick(&scores),
        action: *random.pick(&actions),
        status: *random.pick(&statuses),
        tags: Vec::new(),
        outcome: None,
        clause: dynamic_cep::rule::Clause::default(),
        tests: Vec::new(),
    }
}

/// Columns of every type; several of some. Mostly few enough for a register of codes, sometimes for two, sometimes not.
fn schema(random: &mut Random) -> Schema {
    let most = *random.pick(&[1, 1, 1, 2, 2, 4]);
    let mut fields = Vec::new();
    let mut add = |random: &mut Random, name: &str, ty: Type| {
        for nth in 0..1 + random.below(most) {
            // Names that must be quoted take part, too.
            let name = if random.one_in(9) { format!("{name} {nth}") } else { format!("{name}{nth}") };
            fields.push(Field { name, ty });
        }
    };
    let scale = |random: &mut Random| *random.pick(&[0, 1, 2, 9, 37, 38]);
    let scales = [scale(random), scale(random)];
    add(random, "b", Type::Bool);
    add(random, "i", Type::Int);
    add(random, "u", Type::UInt);
    add(random, "f", Type::Float);
    add(random, "d", Type::Decimal { scale: scales[0] });
    add(random, "e", Type::Decimal { scale: scales[1] });
    add(random, "t", Type::Text);
    add(random, "ts", Type::Timestamp(TimeUnit::Second));
    add(random, "tm", Type::Timestamp(TimeUnit::Millisecond));
    add(random, "tu", Type::Timestamp(TimeUnit::Microsecond));
    add(random, "tn", Type::Timestamp(TimeUnit::Nanosecond));
    add(random, "day", Type::Date);
    let tenant = random.below(5);
    let tenant_type = match tenant {
        0 => None,
        1 => Some(Type::Int),
        2 => Some(Type::UInt),
        _ => Some(Type::Text),
    };
    let tenant = tenant_type.map(|ty| {
        fields.push(Field { name: "tenant".to_owned(), ty });
        FieldId::new(fields.len() - 1)
    });
    let mut schema = Schema::new(fields).expect("every field has a name of its own");
    schema.tenant = tenant;
    schema
}

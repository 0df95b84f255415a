//! Texts of patterns that stand by themselves. What a pattern names of the document around it is written out: lists and parameters as their values, windows as the columns that they are
//! elsewhere. What comes out is the same pattern where the document is not known. Conditions need none of it: [`super::print`] writes them from what they mean.

use super::print::{write_constant, write_field_name};
use crate::event::Value;
use crate::id::FieldId;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

/// A place in the text of a pattern that names something.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// Bytes of the text.
    pub span: Range<usize>,
    pub what: What,
}

/// What is named.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// `LIST name`, behind an IN. `float`: beside a float.
    List { values: Arc<[Value]>, float: bool },
    /// `:name`
    Parameter(Value),
    /// A column of the events or a window, of the rows of a variable or of all.
    Column { variable: Option<Arc<str>>, field: FieldId },
}

/// Writes `text` to the end of `to`, with its `mentions` written out. `renamed`: what a column is called elsewhere, where that is something else.
pub fn write<'n>(text: &str, mentions: &[Mention], renamed: &dyn Fn(FieldId) -> Option<&'n str>, to: &mut String) {
    let mut mentions: Vec<&Mention> = mentions.iter().collect();
    mentions.sort_by_key(|mention| mention.span.start);
    let mut from = 0;
    for Mention { span, what } in mentions {
        if let What::Column { field, .. } = what
            && renamed(*field).is_none()
        {
            continue;
        }
        to.push_str(&text[from..span.start]);
        from = span.end;
        match what {
            What::List { values, float } => {
                to.push('(');
                for (at, value) in values.iter().enumerate() {
                    to.push_str(if at == 0 { "" } else { ", " });
                    write_constant(value, *float, to);
                }
                to.push(')');
            }
            // Between spaces, so that it stays a word by itself; in parentheses, so that a sign is not taken for part of what stands before it.
            What::Parameter(value) => {
                to.push_str(" (");
                write_constant(value, false, to);
                to.push_str(") ");
            }
            What::Column { variable, field } => {
                if let Some(variable) = variable {
                    let _ = write!(to, "\"{}\".", variable.replace('"', "\"\""));
                }
                write_field_name(renamed(*field).unwrap_or_default(), to);
            }
        }
    }
    to.push_str(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, Schema, TimeUnit, Type};
    use crate::pattern::Pattern;
    use crate::rule::lists::Lists;
    use crate::rule::window::Columns;
    use crate::rule::{Clause, Limits, Origin, check};
    use serde_json::json;

    const SPENT: &str =
        "SUM(amount) OVER (PARTITION BY \"a \"\"card\"\"\" ORDER BY at RANGE BETWEEN INTERVAL '1.5' HOUR PRECEDING AND CURRENT ROW)";

    fn events() -> Schema {
        let field = |name: &str, ty| Field { name: name.to_owned(), ty };
        let fields = [
            field("a \"card\"", Type::Text),
            field("amount", Type::Int),
            field("rate", Type::Float),
            field("price", Type::Decimal { scale: 2 }),
            field("at", Type::Timestamp(TimeUnit::Millisecond)),
            field("shop.list", Type::Text),
        ];
        let mut schema = Schema::new(fields.to_vec()).unwrap();
        schema.time = schema.find("at");
        schema
    }

    /// The pattern that `text` is with and without its document, and the text without.
    fn both(text: &str, clause: Clause) -> (Pattern, Pattern, String) {
        let (schema, limits, mut lists) = (events(), Limits::default(), Lists::new());
        for (name, entries) in [
            ("risky", vec![json!("it's"), json!("\"5967\""), json!("-- no comment"), json!(":n")]),
            ("My List", vec![json!("IN LIST risky")]),
            ("none", Vec::new()),
            ("few", vec![json!(-3), json!(2.50), json!(18_446_744_073_709_551_615_u64)]),
            ("one", vec![json!(-7)]),
            ("days", vec![json!("2026-01-31"), json!("2026-01-31 12:00:00.5")]),
        ] {
            lists.insert(name, entries);
        }
        let parameters = [("n".into(), Value::Int(-5)), ("t".into(), Value::Text("o'clock".into())), ("u".into(), Value::UInt(3))];
        let scope = check::Scope { schema: &schema, lists: &lists, parameters: &parameters, limits: &limits, windows: &[] };
        let window = check::window::stated(&format!("{SPENT} > 0"), &Origin::default(), &scope).into_iter().next().expect("a window");
        let (mut columns, mut alone) = (Columns::new(&schema), Columns::new(&schema));
        columns.add_named(&"Spent".into(), window.clone());
        alone.add_by_text(window);
        let scope = check::Scope { schema: columns.named_schema(), ..scope };
        let (pattern, mentions) =
            check::pattern::read(text, clause, &Origin::default(), None, &scope).unwrap_or_else(|why| panic!("{text}: {why:?}"));
        let mut written = String::new();
        let elsewhere = |field: FieldId| alone.schema().fields().get(field.index()).filter(|_| field.index() >= schema.fields().len());
        write(text, &mentions, &|field| elsewhere(field).map(|field| field.name.as_str()), &mut written);
        let (none, limits) = (Lists::new(), Limits::unlimited());
        let scope = check::Scope { schema: alone.named_schema(), lists: &none, parameters: &[], limits: &limits, windows: &[] };
        let again = check::pattern::pattern(&written, clause, &Origin::default(), None, &scope);
        (pattern, again.unwrap_or_else(|why| panic!("{written}: {why:?}")), written)
    }

    /// Whatever is named, and however it is spelled, the pattern stays the same.
    #[test]
    fn what_stands_by_itself_is_the_same_pattern() {
        let card = "\"a \"\"card\"\"\"";
        let define = |condition: &str| format!("PARTITION BY {card} ORDER BY at PATTERN (a b+) DEFINE b AS {condition}");
        let conditions = [
            format!("{card} IN LIST risky AND a.{card} NOT IN LIST risky"),
            format!("{card} in /* IN LIST risky */ list\"My List\"AND TRUE -- IN LIST risky"),
            format!("{card} iN LiSt none OR amount IN LIST one"),
            "amount IN LIST few AND rate IN LIST few AND price IN LIST few AND rate NOT IN LIST one".to_owned(),
            "at IN LIST days AND NULL IN LIST few".to_owned(),
            "\"shop.list\" IN LIST risky AND b.\"shop.list\" = 'x IN LIST risky'".to_owned(),
            "amount>:n AND amount-:n>-:n AND NOT:n=amount AND \"shop.list\" = :t AND amount IN (:u,:n)".to_owned(),
            "spent > 5 AND SPENT > a.spent AND \"Spent\" < PREV(b.Spent) AND LAST(\"A\".\"Spent\", 1) IN LIST few".to_owned(),
            "`Spent` > SUM(b.spent) AND 'spent' <> :t AND COUNT(a.*) > 0 /* spent */".to_owned(),
        ];
        for condition in &conditions {
            let (with, without, written) = both(&define(condition), Clause::MatchRecognize);
            assert_eq!(with, without, "{written}");
        }
        // Names that are none of the document's, though they look like them.
        let text = "PARTITION BY spent ORDER BY at, Spent DESC MEASURES LAST(a.spent) AS spent, :t AS \"risky\" \
                    PATTERN (a in list risky) DEFINE \"RISKY\" AS amount > 1";
        let (with, without, written) = both(text, Clause::MatchRecognize);
        assert_eq!(with, without, "{written}");
        assert!(
            written.ends_with("AS spent,  ('o''clock')  AS \"risky\" PATTERN (a in list risky) DEFINE \"RISKY\" AS amount > 1"),
            "{written}"
        );
        assert!(!written.contains("spent ORDER") && written.contains("ORDER BY at, \"SUM(amount) OVER"), "{written}");
        let text = "BY spent WITHIN INTERVAL '1' HOUR [amount IN LIST one] AS a THEN [spent > a.spent] UNTIL [\"shop.list\" IN LIST risky] MEASURES a.spent AS s";
        let (with, without, written) = both(text, Clause::Sequence);
        assert_eq!(with, without, "{written}");
    }

    #[test]
    fn what_names_nothing_stays_as_it_is() {
        let text = "ORDER BY at -- spent, IN LIST risky\nPATTERN (a \"spent\") DEFINE a AS \"shop.list\" LIKE 'IN LIST risky :n'";
        assert_eq!(both(text, Clause::MatchRecognize).2, text);
    }
}

//! Window functions: `FUNCTION(…) [FILTER (WHERE …)] OVER (…)`.

use super::power::CONCAT;
use super::{Keyword, OR, Parsed, Parser, Stop};
use crate::rule::ast::{Bound, FrameClause, Over, OverFunction, Syntax};
use crate::rule::lexer::Kind;

fn function(name: &str) -> Option<OverFunction> {
    Some(match name.to_ascii_lowercase().as_str() {
        "count" => OverFunction::Count,
        "sum" => OverFunction::Sum,
        "avg" => OverFunction::Average,
        "min" => OverFunction::Minimum,
        "max" => OverFunction::Maximum,
        "stddev" | "stddev_samp" => OverFunction::Deviation,
        "first_value" => OverFunction::First,
        "last_value" => OverFunction::Last,
        "lag" => OverFunction::Lag,
        _ => return None,
    })
}

impl Parser<'_, '_> {
    /// A window function from its first argument on. Its name stands at `start..name_end`.
    pub(super) fn window(&mut self, name: &str, start: usize, name_end: usize) -> Result<Parsed, Stop> {
        let shown = name.to_uppercase();
        let Some(function) = function(name) else {
            self.report
                .error("unsupported", start..name_end, format!("{shown} is not supported"))
                .hint("window functions are COUNT, SUM, AVG, MIN, MAX, STDDEV, FIRST_VALUE, LAST_VALUE and LAG");
            return Err(Stop);
        };
        let distinct = self.take_word("distinct");
        let (mut argument, mut offset, mut height) = (None, None, 0);
        let rows = function == OverFunction::Count && !distinct;
        if !(rows && (self.take(Kind::Star) || self.token.kind == Kind::RightParen)) {
            let parsed = self.expression(OR)?;
            (argument, height) = (Some(parsed.id), parsed.height);
        }
        if function == OverFunction::Lag && self.take(Kind::Comma) {
            let parsed = self.expression(OR)?;
            (offset, height) = (Some(parsed.id), height.max(parsed.height));
        }
        self.expect(Kind::RightParen, "a closing parenthesis")?;
        let call_end = self.end;
        let mut filter = None;
        if self.take_word("filter") {
            self.expect(Kind::LeftParen, "WHERE and a condition in parentheses")?;
            self.expect_word("WHERE")?;
            let parsed = self.expression(OR)?;
            (filter, height) = (Some(parsed.id), height.max(parsed.height));
            self.expect(Kind::RightParen, "a closing parenthesis")?;
        }
        if !self.take_word("over") {
            self.report
                .error("aggregate-without-over", start..call_end, format!("{shown} looks at several events, and does not say which"))
                .hint(format!(
                    "{} OVER (PARTITION BY … ORDER BY … RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)",
                    self.text.get(start..call_end).unwrap_or(&shown)
                ));
            return Err(Stop);
        }
        let clause = self.token.start;
        self.expect(Kind::LeftParen, "the window in parentheses")?;
        let mut over =
            Over { function, distinct, argument, offset, filter, partition_by: Vec::new(), order_by: Vec::new(), frame: None, span: 0..0 };
        if self.take_word("partition") {
            self.expect_word("BY")?;
            loop {
                over.partition_by.push(self.column_name()?.id);
                if !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        if self.take_word("order") {
            self.expect_word("BY")?;
            loop {
                let field = self.column_name()?.id;
                let descending = self.take_word("desc");
                if !descending {
                    self.take_word("asc");
                }
                if self.take_word("nulls") && !self.take_word("first") {
                    self.expect_word("LAST")?;
                }
                over.order_by.push((field, descending));
                if !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        over.frame = self.frame(&mut height)?;
        let expected =
            if over.frame.is_some() { "a closing parenthesis" } else { "PARTITION BY, ORDER BY, RANGE, ROWS or a closing parenthesis" };
        self.expect(Kind::RightParen, expected)?;
        over.span = clause..self.end;
        self.node(Syntax::Window(Box::new(over)), start, height)
    }

    fn column_name(&mut self) -> Result<Parsed, Stop> {
        let called = self.peek().kind == Kind::LeftParen;
        match self.token.kind {
            Kind::Quoted => self.field(),
            Kind::Word if self.keyword == Keyword::None && !called => self.field(),
            _ => Err(self.unexpected("the name of a field")),
        }
    }

    fn frame(&mut self, height: &mut usize) -> Result<Option<FrameClause>, Stop> {
        let start = self.token.start;
        let rows = self.take_word("rows");
        if !rows && !self.take_word("range") {
            if self.at_word("groups") {
                return self.fail("GROUPS is not supported; frames are RANGE or ROWS");
            }
            return Ok(None);
        }
        let (from, to) = if self.take_keyword(Keyword::Between) {
            let from = self.bound(height)?;
            if !self.take_keyword(Keyword::And) {
                return Err(self.unexpected("AND and the end of the frame"));
            }
            (from, self.bound(height)?)
        } else {
            (self.bound(height)?, Bound::Current)
        };
        let mut current = true;
        if self.take_word("exclude") {
            if self.take_word("current") {
                self.expect_word("ROW")?;
                current = false;
            } else if self.take_word("no") {
                self.expect_word("OTHERS")?;
            } else {
                return Err(self.unexpected("CURRENT ROW or NO OTHERS after EXCLUDE"));
            }
        }
        Ok(Some(FrameClause { rows, from, to, current, span: start..self.end }))
    }

    fn bound(&mut self, height: &mut usize) -> Result<Bound, Stop> {
        if self.take_word("current") {
            self.expect_word("ROW")?;
            return Ok(Bound::Current);
        }
        let by = if self.take_word("unbounded") {
            None
        } else {
            let parsed = self.expression(CONCAT)?;
            *height = (*height).max(parsed.height);
            Some(parsed.id)
        };
        let following = self.take_word("following");
        if !following {
            self.expect_word("PRECEDING")?;
        }
        Ok(Bound::Offset { by, following })
    }
}

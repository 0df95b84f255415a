//! Calls of functions, with the arguments that SQL writes in words, and the names of types.

use super::power::CONCAT;
use super::{Keyword, OR, Parsed, Parser, Stop, keyword, shown};
use crate::event::{TimeUnit, Type};
use crate::expr::{DatePart, Function};
use crate::rule::ast::Syntax;
use crate::rule::builtin::{self, BUILTINS, Builtin};
use crate::rule::lexer::Kind;
use crate::rule::{literal, suggest};
use std::borrow::Cow;

impl<'t> Parser<'t, '_> {
    /// `EXISTS (SELECT …)` of a subquery without FROM, which has one row; the current token is behind the parenthesis.
    fn exists(&mut self, start: usize) -> Result<Parsed, Stop> {
        if !self.take_word("select") {
            return Err(self.unexpected("SELECT"));
        }
        let inner = self.expression(OR)?;
        self.end_of_parentheses(true, "a closing parenthesis")?;
        self.node(Syntax::Bool(true), start, inner.height)
    }

    /// `name(…)`; the current token is the name.
    pub(super) fn call(&mut self, name: &'t str) -> Result<Parsed, Stop> {
        let (start, name_end) = (self.token.start, self.token.end);
        let found = builtin::find(name);
        self.advance();
        self.advance();
        let Some((builtin, fewest, most)) = found else {
            if name.eq_ignore_ascii_case("exists") {
                return self.exists(start);
            }
            let error = self.report.error("unknown-function", start..name_end, format!("unknown function `{}`", shown(name)));
            if let Some(near) = suggest::closest(&name.to_ascii_lowercase(), BUILTINS.iter().map(|entry| entry.0)) {
                error.hint(format!("did you mean {}?", near.to_uppercase()));
            }
            let bottom = self.stack.len();
            let height = self.arguments()?;
            self.stack.truncate(bottom);
            return self.node(Syntax::Invalid, start, height);
        };
        let bottom = self.stack.len();
        let mut height = 0;
        let mut builtin = builtin;
        match builtin {
            Builtin::Aggregate => return self.window(name, start, name_end),
            Builtin::Cast => {
                let operand = self.expression(OR)?;
                self.expect_word("AS")?;
                let ty = self.type_name()?;
                self.expect(Kind::RightParen, "a closing parenthesis")?;
                return self.node(Syntax::Cast { operand: operand.id, ty }, start, operand.height);
            }
            Builtin::ExtractFrom => {
                let part = self.date_part()?;
                self.expect_word("FROM")?;
                let operand = self.expression(OR)?;
                self.expect(Kind::RightParen, "a closing parenthesis")?;
                return self.node(Syntax::Extract { part, operand: operand.id }, start, operand.height);
            }
            Builtin::DatePart => {
                let part = self.date_part()?;
                self.expect(Kind::Comma, "a comma")?;
                let operand = self.expression(OR)?;
                self.expect(Kind::RightParen, "a closing parenthesis")?;
                return self.node(Syntax::Extract { part, operand: operand.id }, start, operand.height);
            }
            Builtin::Function(Function::Trim) => builtin = self.trim_arguments(&mut height)?,
            Builtin::Function(Function::Substring) if self.token.kind != Kind::RightParen => self.substring_arguments(&mut height)?,
            Builtin::Function(Function::Position) if self.token.kind != Kind::RightParen => {
                let needle = self.expression(CONCAT)?;
                self.stack.push(needle.id);
                height = needle.height;
                if !self.take_keyword(Keyword::In) {
                    self.expect(Kind::Comma, "IN")?;
                }
                self.pushed(&mut height)?;
                self.expect(Kind::RightParen, "a closing parenthesis")?;
            }
            _ => height = self.arguments()?,
        }
        if self.at_word("over") || self.at_word("filter") {
            let primary = format!("{} looks at one event, and is no window function", name.to_uppercase());
            self.report.error("unsupported", start..self.token.end, primary);
            return Err(Stop);
        }
        let count = self.stack.len() - bottom;
        if count < fewest || count > most {
            let wanted = match (fewest, most) {
                (1, 1) => "1 argument".to_string(),
                (a, b) if a == b => format!("{a} arguments"),
                (a, usize::MAX) => format!("at least {a} argument{}", if a == 1 { "" } else { "s" }),
                (a, b) => format!("{a} to {b} arguments"),
            };
            self.report.error("wrong-arguments", start..self.end, format!("{} takes {wanted}, found {count}", name.to_uppercase()));
            self.stack.truncate(bottom);
            return self.node(Syntax::Invalid, start, height);
        }
        let args = self.take_args(bottom);
        let syntax = match builtin {
            Builtin::Extract(part) => Syntax::Extract { part, operand: self.ast.args(args)[0] },
            _ => Syntax::Call { builtin, args },
        };
        self.node(syntax, start, height)
    }

    /// Arguments up to the closing parenthesis onto the stack; their height.
    fn arguments(&mut self) -> Result<usize, Stop> {
        let mut height = 0;
        if self.take(Kind::RightParen) {
            return Ok(height);
        }
        loop {
            self.pushed(&mut height)?;
            if self.take(Kind::RightParen) {
                return Ok(height);
            }
            self.expect(Kind::Comma, "a comma or a closing parenthesis")?;
        }
    }

    /// `TRIM([BOTH | LEADING | TRAILING] [characters] FROM text)`, or plain arguments. Leaves text, then characters on the stack.
    fn trim_arguments(&mut self, height: &mut usize) -> Result<Builtin, Stop> {
        let mut function = Function::Trim;
        let next = self.peek();
        // Before an operand these words choose a side; anywhere else they are fields.
        let operand_follows = matches!(next.kind, Kind::Word | Kind::Quoted | Kind::Text | Kind::Parameter | Kind::LeftParen)
            && !matches!(keyword(self.slice(next)), Keyword::In | Keyword::Is | Keyword::And | Keyword::Or | Keyword::Like);
        let mut sided = false;
        if operand_follows {
            for (word, side) in [("both", Function::Trim), ("leading", Function::TrimStart), ("trailing", Function::TrimEnd)] {
                if !sided && self.take_word(word) {
                    (function, sided) = (side, true);
                }
            }
        }
        if sided && self.take_word("from") {
            self.pushed(height)?;
            self.expect(Kind::RightParen, "a closing parenthesis")?;
            return Ok(Builtin::Function(function));
        }
        let bottom = self.stack.len();
        if self.token.kind == Kind::RightParen {
            self.advance();
            return Ok(Builtin::Function(function));
        }
        self.pushed(height)?;
        if self.take_word("from") {
            self.pushed(height)?;
            self.stack.swap(bottom, bottom + 1);
            self.expect(Kind::RightParen, "a closing parenthesis")?;
        } else if self.take(Kind::Comma) {
            *height = (*height).max(self.arguments()?);
        } else {
            self.expect(Kind::RightParen, "FROM, a comma or a closing parenthesis")?;
        }
        Ok(Builtin::Function(function))
    }

    /// `SUBSTRING(text FROM start [FOR length])`, or plain arguments.
    fn substring_arguments(&mut self, height: &mut usize) -> Result<(), Stop> {
        self.pushed(height)?;
        if self.take_word("from") {
            self.pushed(height)?;
            if self.take_word("for") {
                self.pushed(height)?;
            }
            return self.expect(Kind::RightParen, "FOR or a closing parenthesis");
        }
        if self.take(Kind::Comma) {
            *height = (*height).max(self.arguments()?);
            return Ok(());
        }
        self.expect(Kind::RightParen, "FROM, a comma or a closing parenthesis")
    }

    fn date_part(&mut self) -> Result<DatePart, Stop> {
        let slice = self.slice(self.token);
        let name = match self.token.kind {
            Kind::Word => Cow::Borrowed(slice),
            Kind::Text => literal::unquote(slice),
            _ => return Err(self.unexpected("a part of a date, such as HOUR")),
        };
        let Some(part) = builtin::date_part(&name) else {
            self.report
                .error("syntax", self.token.start..self.token.end, format!("`{}` is not a part of a date", shown(&name)))
                .hint("YEAR, QUARTER, MONTH, WEEK, DAY, DOW, ISODOW, DOY, HOUR, MINUTE, SECOND or EPOCH");
            return Err(Stop);
        };
        self.advance();
        Ok(part)
    }

    /// The name of a type, as SQL or as the schema writes it.
    pub(super) fn type_name(&mut self) -> Result<Type, Stop> {
        let start = self.token.start;
        if self.token.kind != Kind::Word {
            return Err(self.unexpected("the name of a type"));
        }
        let word = self.slice(self.token);
        self.advance();
        let mut buffer = [0; 16];
        let name = builtin::lower_case(word, &mut buffer).unwrap_or(b"");
        let ty = match name {
            b"bool" | b"boolean" => Type::Bool,
            b"int" | b"integer" | b"bigint" | b"smallint" | b"tinyint" | b"signed" | b"int2" | b"int4" | b"int8" | b"int16" | b"int32"
            | b"int64" | b"uint8" | b"uint16" | b"uint32" => Type::Int,
            b"uint64" | b"ubigint" | b"unsigned" => Type::UInt,
            b"real" | b"float" | b"float4" | b"float8" | b"float16" | b"float32" | b"float64" => Type::Float,
            b"double" => {
                self.take_word("precision");
                Type::Float
            }
            b"decimal" | b"numeric" | b"dec" | b"decimal128" => return self.decimal_type(start),
            b"text" | b"string" | b"utf8" | b"varchar" | b"char" | b"nvarchar" => {
                self.type_arguments()?;
                Type::Text
            }
            b"character" => {
                self.take_word("varying");
                self.type_arguments()?;
                Type::Text
            }
            b"date" | b"date32" => Type::Date,
            b"datetime" | b"timestamp" | b"timestamptz" => Type::Timestamp(self.timestamp_unit()?),
            b"interval" => Type::Interval,
            _ => {
                const NAMES: [&str; 12] = [
                    "boolean",
                    "integer",
                    "bigint",
                    "uint64",
                    "float64",
                    "double",
                    "decimal",
                    "text",
                    "varchar",
                    "date",
                    "timestamp",
                    "interval",
                ];
                let error = self.report.error("syntax", start..self.end, format!("unknown type `{}`", shown(word)));
                if let Some(near) = suggest::closest(&word.to_ascii_lowercase(), NAMES) {
                    error.hint(format!("did you mean {near}?"));
                }
                return Err(Stop);
            }
        };
        if matches!(name, b"signed" | b"unsigned") {
            self.take_word("integer");
        }
        Ok(ty)
    }

    /// `(n, …)` after the name of a type: up to two numbers.
    fn type_arguments(&mut self) -> Result<[Option<u32>; 2], Stop> {
        let mut numbers = [None; 2];
        if !self.take(Kind::LeftParen) {
            return Ok(numbers);
        }
        for number in &mut numbers {
            let Ok(value) = self.slice(self.token).parse() else { return Err(self.unexpected("a whole number")) };
            *number = Some(value);
            self.advance();
            if !self.take(Kind::Comma) {
                break;
            }
        }
        self.expect(Kind::RightParen, "a closing parenthesis")?;
        Ok(numbers)
    }

    /// `DECIMAL`, `DECIMAL(precision)` or `DECIMAL(precision, scale)`. Every decimal holds 38 digits, so only the scale counts.
    fn decimal_type(&mut self, start: usize) -> Result<Type, Stop> {
        let [precision, scale] = self.type_arguments()?;
        let (precision, scale) = (precision.unwrap_or(38), scale.unwrap_or(0));
        if precision == 0 || precision > 38 || scale > precision {
            self.report
                .error("syntax", start..self.end, "no such decimal type")
                .hint("DECIMAL(precision, scale): precision 1 to 38, scale at most the precision");
            return Err(Stop);
        }
        Ok(Type::Decimal { scale: scale as u8 })
    }

    /// `(s)`, `(ms)`, `(us)`, `(ns)`, or digits of the fraction, and words about the zone; without either, microseconds.
    fn timestamp_unit(&mut self) -> Result<TimeUnit, Stop> {
        let mut unit = TimeUnit::Microsecond;
        if self.take(Kind::LeftParen) {
            unit = match self.slice(self.token).to_ascii_lowercase().as_str() {
                "s" | "0" => TimeUnit::Second,
                "ms" | "1" | "2" | "3" => TimeUnit::Millisecond,
                "us" | "4" | "5" | "6" => TimeUnit::Microsecond,
                "ns" | "7" | "8" | "9" => TimeUnit::Nanosecond,
                _ => return Err(self.unexpected("s, ms, us or ns")),
            };
            self.advance();
            self.expect(Kind::RightParen, "a closing parenthesis")?;
        }
        if self.at_word("with") || self.at_word("without") {
            self.advance();
            self.expect_word("TIME")?;
            self.expect_word("ZONE")?;
        }
        Ok(unit)
    }
}

//! From tokens to syntax: operator precedence by Pratt's method, with bounded depth.
//!
//! From loosest to tightest: OR, AND, NOT, comparisons (= <> < <= > >= IS BETWEEN IN LIKE ~), ||, + -, * / %, unary + -, ::.
//! Chains of AND and OR are read in a loop and become one node each, however long they are.

mod call;
pub(super) mod pattern;
mod sequence;
mod window;

use super::ast::{Ast, AstId, Syntax, Test};
use super::builtin::{self, Builtin};
use super::lexer::{Kind, Lexer, Token};
use super::limits::Limits;
use super::literal;
use super::report::Report;
use crate::expr::{ArithmeticOp, CompareOp, Function};
use power::{AND, CAST, COMPARISON, CONCAT, NOT, OR, PRODUCT, SUM, UNARY};
use std::borrow::Cow;

/// How tightly operators bind.
pub(super) mod power {
    pub const OR: u8 = 1;
    pub const AND: u8 = 2;
    pub const NOT: u8 = 3;
    pub const COMPARISON: u8 = 4;
    pub const CONCAT: u8 = 5;
    pub const SUM: u8 = 6;
    pub const PRODUCT: u8 = 7;
    pub const UNARY: u8 = 8;
    pub const CAST: u8 = 9;
    /// What needs no parentheses anywhere.
    pub const ATOM: u8 = 10;
}

/// Words with a meaning of their own wherever an operand or an operator may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keyword {
    None,
    And,
    Between,
    Case,
    Else,
    End,
    False,
    Ilike,
    In,
    Is,
    IsNull,
    Like,
    Not,
    NotNull,
    Null,
    Or,
    Regexp,
    Select,
    Then,
    True,
    When,
}

fn keyword(word: &str) -> Keyword {
    let mut buffer = [0; 16];
    match builtin::lower_case(word, &mut buffer) {
        Some(b"and") => Keyword::And,
        Some(b"between") => Keyword::Between,
        Some(b"case") => Keyword::Case,
        Some(b"else") => Keyword::Else,
        Some(b"end") => Keyword::End,
        Some(b"false") => Keyword::False,
        Some(b"ilike") => Keyword::Ilike,
        Some(b"in") => Keyword::In,
        Some(b"is") => Keyword::Is,
        Some(b"isnull") => Keyword::IsNull,
        Some(b"like") => Keyword::Like,
        Some(b"not") => Keyword::Not,
        Some(b"notnull") => Keyword::NotNull,
        Some(b"null") => Keyword::Null,
        Some(b"or") => Keyword::Or,
        Some(b"regexp" | b"rlike") => Keyword::Regexp,
        Some(b"select") => Keyword::Select,
        Some(b"then") => Keyword::Then,
        Some(b"true") => Keyword::True,
        Some(b"when") => Keyword::When,
        _ => Keyword::None,
    }
}

/// Whether `word` names a field without quotes wherever it stands. The parser takes more; the printer quotes what is close to syntax.
#[must_use]
pub fn is_plain_name(word: &str) -> bool {
    const CONTEXT: [&str; 9] = ["symmetric", "from", "for", "both", "leading", "trailing", "distinct", "list", "escape"];
    super::lexer::is_word(word) && keyword(word) == Keyword::None && !CONTEXT.iter().any(|context| word.eq_ignore_ascii_case(context))
}

/// A syntax error was reported, and reading cannot go on.
#[derive(Debug)]
struct Stop;

/// What was read: its node, how deep the tree below it is, and where it starts in the text.
#[derive(Clone, Copy)]
struct Parsed {
    id: AstId,
    height: usize,
    start: usize,
}

enum Infix {
    And,
    Or,
    Not,
    Compare(CompareOp),
    Arithmetic(ArithmeticOp),
    Concat,
    Cast,
    Is,
    IsNull { negated: bool },
    Predicate(Keyword),
    Regex { case_insensitive: bool, negated: bool },
}

struct Parser<'t, 'r> {
    text: &'t str,
    lexer: Lexer<'t>,
    token: Token,
    /// The token after this one, once it was looked at, and the lexer behind it.
    ahead: Option<(Token, Lexer<'t>)>,
    keyword: Keyword,
    /// Where the token before this one ended.
    end: usize,
    ast: Ast<'t>,
    /// Operands of the chains and lists being read, the innermost last.
    stack: Vec<AstId>,
    depth: usize,
    /// Inside of a pattern, where functions may look at several rows.
    in_pattern: bool,
    limits: &'r Limits,
    report: &'r mut Report<'t>,
}

/// Reads `text`. `None`: it has a syntax error, which is in the report. Other errors may be there too.
pub(super) fn parse<'t>(text: &'t str, limits: &Limits, report: &mut Report<'t>) -> Option<Ast<'t>> {
    let mut parser = Parser::new(text, false, limits, report)?;
    parser.whole().ok()?;
    Some(parser.ast)
}

impl<'t, 'r> Parser<'t, 'r> {
    /// At the first token of `text`. `None`: it is too long, which is in the report.
    fn new(text: &'t str, in_pattern: bool, limits: &'r Limits, report: &'r mut Report<'t>) -> Option<Self> {
        if text.len() > limits.condition_bytes.min(u32::MAX as usize - 1) {
            let what = if in_pattern { "pattern" } else { "condition" };
            report
                .error("limit", 0..0, format!("the {what} has {} bytes", text.len()))
                .detail(format!("at most {} are allowed", limits.condition_bytes));
            return None;
        }
        let mut parser = Self {
            text,
            lexer: Lexer::new(text),
            token: Token { kind: Kind::End, start: 0, end: 0 },
            ahead: None,
            keyword: Keyword::None,
            end: 0,
            ast: Ast::for_text(text.len().min(1 << 16)),
            stack: Vec::with_capacity(8),
            depth: 0,
            in_pattern,
            limits,
            report,
        };
        parser.advance();
        Some(parser)
    }

    fn whole(&mut self) -> Result<(), Stop> {
        if self.token.kind == Kind::End {
            self.report.error("syntax", 0..0, "the condition is empty").hint("write TRUE for a rule that matches every event");
            return Err(Stop);
        }
        self.expression(OR)?;
        if self.token.kind == Kind::Semicolon {
            self.advance();
        }
        if self.token.kind == Kind::End {
            return Ok(());
        }
        if self.token.kind == Kind::RightParen {
            return self.fail("this parenthesis closes nothing");
        }
        Err(self.unexpected("an operator or the end of the condition"))
    }

    fn advance(&mut self) {
        self.end = self.token.end;
        self.token = match self.ahead.take() {
            Some((token, lexer)) => {
                self.lexer = lexer;
                token
            }
            None => self.lexer.next_token(),
        };
        self.keyword = if self.token.kind == Kind::Word { keyword(self.slice(self.token)) } else { Keyword::None };
    }

    fn slice(&self, token: Token) -> &'t str {
        self.text.get(token.start..token.end).unwrap_or("")
    }

    /// The token after this one.
    fn peek(&mut self) -> Token {
        let (token, _) = self.ahead.get_or_insert_with(|| {
            let mut lexer = self.lexer.clone();
            (lexer.next_token(), lexer)
        });
        *token
    }

    fn at_word(&self, word: &str) -> bool {
        self.token.kind == Kind::Word && self.slice(self.token).eq_ignore_ascii_case(word)
    }

    fn take(&mut self, kind: Kind) -> bool {
        let found = self.token.kind == kind;
        if found {
            self.advance();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let found = self.keyword == keyword;
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, kind: Kind, name: &str) -> Result<(), Stop> {
        if self.take(kind) { Ok(()) } else { Err(self.unexpected(name)) }
    }

    fn expect_word(&mut self, word: &str) -> Result<(), Stop> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    fn fail<T>(&mut self, primary: impl Into<String>) -> Result<T, Stop> {
        self.report.error("syntax", self.token.start..self.token.end, primary);
        Err(Stop)
    }

    /// Reports that the current token is not what was expected here.
    fn unexpected(&mut self, expected: &str) -> Stop {
        let span = self.token.start..self.token.end;
        let word = self.slice(self.token);
        let report = &mut *self.report;
        match self.token.kind {
            Kind::UnterminatedText => {
                report.error("syntax", span, "this string has no end").hint("a quote inside a string is written twice: 'it''s'")
            }
            Kind::UnterminatedName => report.error("syntax", span, "this quoted name has no end").hint("strings take single quotes"),
            Kind::UnterminatedComment => report.error("syntax", span, "this comment has no end").hint("close it with */"),
            Kind::InvalidNumber => report.error("syntax", span, format!("`{}` is not a number", shown(word))),
            Kind::UnknownCharacter if word == "`" => {
                report.error("syntax", span, "unexpected character '`'").hint("names take double quotes: \"name\"")
            }
            Kind::UnknownCharacter => report.error("syntax", span, format!("unexpected character {word:?}")),
            Kind::End => report.error("syntax", span, format!("expected {expected}, found the end of the condition")),
            Kind::Word if self.keyword == Keyword::Select => report.error("unsupported", span, "subqueries are not supported"),
            Kind::Word if self.keyword != Keyword::None => report
                .error("syntax", span, format!("expected {expected}, found {}", word.to_uppercase()))
                .hint(format!("to name a field, quote it: \"{word}\"")),
            _ => report.error("syntax", span, format!("expected {expected}, found `{}`", shown(word))),
        };
        Stop
    }

    /// The end of parentheses around a value, or around a subquery without FROM: that has one row, whose value it is.
    fn end_of_parentheses(&mut self, selects: bool, expected: &str) -> Result<(), Stop> {
        if selects && self.at_word("from") {
            let span = self.token.start..self.token.end;
            self.report
                .error("unsupported", span, "subqueries over tables are not supported")
                .hint("a condition sees one event, or the rows of a match");
            return Err(Stop);
        }
        self.expect(Kind::RightParen, expected)
    }

    fn too_deep(&mut self, start: usize) -> Stop {
        let span = start..self.token.end.max(start);
        self.report
            .error("limit", span, "the condition nests too deeply")
            .detail(format!("at most {} levels are allowed", self.limits.nesting))
            .hint("chains of AND and OR do not nest; long lists of values can be one IN (…)");
        Stop
    }

    /// Adds a node above operands of which the highest has `height`.
    fn node(&mut self, syntax: Syntax<'t>, start: usize, height: usize) -> Result<Parsed, Stop> {
        if height >= self.limits.nesting {
            return Err(self.too_deep(start));
        }
        Ok(Parsed { id: self.ast.push(syntax, start, self.end), height: height + 1, start })
    }

    fn expression(&mut self, minimum: u8) -> Result<Parsed, Stop> {
        if self.depth >= self.limits.nesting {
            return Err(self.too_deep(self.token.start));
        }
        self.depth += 1;
        let mut left = self.operand()?;
        while let Some((power, infix)) = self.infix() {
            if power < minimum {
                break;
            }
            left = self.operation(left, infix)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// The operator at the current token.
    fn infix(&self) -> Option<(u8, Infix)> {
        Some(match self.token.kind {
            Kind::Word => match self.keyword {
                Keyword::And => (AND, Infix::And),
                Keyword::Or => (OR, Infix::Or),
                Keyword::Not => (COMPARISON, Infix::Not),
                Keyword::Is => (COMPARISON, Infix::Is),
                Keyword::IsNull => (COMPARISON, Infix::IsNull { negated: false }),
                Keyword::NotNull => (COMPARISON, Infix::IsNull { negated: true }),
                Keyword::Between | Keyword::In | Keyword::Like | Keyword::Ilike | Keyword::Regexp => {
                    (COMPARISON, Infix::Predicate(self.keyword))
                }
                _ => return None,
            },
            Kind::Equal => (COMPARISON, Infix::Compare(CompareOp::Equal)),
            Kind::NotEqual => (COMPARISON, Infix::Compare(CompareOp::NotEqual)),
            Kind::Less => (COMPARISON, Infix::Compare(CompareOp::Less)),
            Kind::LessOrEqual => (COMPARISON, Infix::Compare(CompareOp::LessOrEqual)),
            Kind::Greater => (COMPARISON, Infix::Compare(CompareOp::Greater)),
            Kind::GreaterOrEqual => (COMPARISON, Infix::Compare(CompareOp::GreaterOrEqual)),
            Kind::Match => (COMPARISON, Infix::Regex { case_insensitive: false, negated: false }),
            Kind::MatchInsensitive => (COMPARISON, Infix::Regex { case_insensitive: true, negated: false }),
            Kind::NoMatch => (COMPARISON, Infix::Regex { case_insensitive: false, negated: true }),
            Kind::NoMatchInsensitive => (COMPARISON, Infix::Regex { case_insensitive: true, negated: true }),
            Kind::Concat => (CONCAT, Infix::Concat),
            Kind::Plus => (SUM, Infix::Arithmetic(ArithmeticOp::Add)),
            Kind::Minus => (SUM, Infix::Arithmetic(ArithmeticOp::Subtract)),
            Kind::Star => (PRODUCT, Infix::Arithmetic(ArithmeticOp::Multiply)),
            Kind::Slash => (PRODUCT, Infix::Arithmetic(ArithmeticOp::Divide)),
            Kind::Percent => (PRODUCT, Infix::Arithmetic(ArithmeticOp::Remainder)),
            Kind::DoubleColon => (CAST, Infix::Cast),
            _ => return None,
        })
    }

    fn operation(&mut self, left: Parsed, infix: Infix) -> Result<Parsed, Stop> {
        match infix {
            Infix::And => self.chain(left, true),
            Infix::Or => self.chain(left, false),
            Infix::Concat => self.concat(left),
            Infix::Compare(op) => {
                self.advance();
                let right = self.expression(CONCAT)?;
                let syntax = Syntax::Compare { op, left: left.id, right: right.id };
                self.node(syntax, left.start, left.height.max(right.height))
            }
            Infix::Arithmetic(op) => {
                self.advance();
                let right = self.expression(match op {
                    ArithmeticOp::Add | ArithmeticOp::Subtract => PRODUCT,
                    _ => UNARY,
                })?;
                let syntax = Syntax::Arithmetic { op, left: left.id, right: right.id };
                self.node(syntax, left.start, left.height.max(right.height))
            }
            Infix::Cast => {
                self.advance();
                let ty = self.type_name()?;
                self.node(Syntax::Cast { operand: left.id, ty }, left.start, left.height)
            }
            Infix::Is => self.is(left),
            Infix::IsNull { negated } => {
                self.advance();
                self.node(Syntax::Is { operand: left.id, test: Test::Null, negated }, left.start, left.height)
            }
            Infix::Regex { case_insensitive, negated } => {
                self.advance();
                self.regex(left, case_insensitive, negated)
            }
            Infix::Predicate(keyword) => self.predicate(left, keyword, false),
            Infix::Not => {
                self.advance();
                match self.keyword {
                    Keyword::Between | Keyword::In | Keyword::Like | Keyword::Ilike | Keyword::Regexp => {
                        self.predicate(left, self.keyword, true)
                    }
                    _ => Err(self.unexpected("BETWEEN, IN, LIKE, ILIKE or REGEXP after NOT")),
                }
            }
        }
    }

    /// `left AND … AND …` (or `OR`) as one node. An operand in parentheses that is a chain of the same kind goes on in this one.
    fn chain(&mut self, left: Parsed, and: bool) -> Result<Parsed, Stop> {
        let keyword = if and { Keyword::And } else { Keyword::Or };
        let bottom = self.stack.len();
        let mut height = 1;
        let mut operand = left;
        loop {
            if self.ast.reopen_chain(and, &mut self.stack) {
                height = height.max(operand.height - 1);
            } else {
                self.stack.push(operand.id);
                height = height.max(operand.height);
            }
            if !self.take_keyword(keyword) {
                break;
            }
            operand = self.expression(if and { NOT } else { AND })?;
        }
        let args = self.take_args(bottom);
        self.node(if and { Syntax::And(args) } else { Syntax::Or(args) }, left.start, height)
    }

    fn concat(&mut self, left: Parsed) -> Result<Parsed, Stop> {
        let bottom = self.stack.len();
        self.stack.push(left.id);
        let mut height = left.height;
        while self.take(Kind::Concat) {
            let right = self.expression(SUM)?;
            self.stack.push(right.id);
            height = height.max(right.height);
        }
        let args = self.take_args(bottom);
        self.node(Syntax::Call { builtin: Builtin::Function(Function::Concat), args }, left.start, height)
    }

    fn take_args(&mut self, bottom: usize) -> super::ast::AstArgs {
        let args = self.ast.push_args(&self.stack[bottom..]);
        self.stack.truncate(bottom);
        args
    }

    fn is(&mut self, left: Parsed) -> Result<Parsed, Stop> {
        self.advance();
        let negated = self.take_keyword(Keyword::Not);
        if self.take_word("distinct") {
            self.expect_word("FROM")?;
            let right = self.expression(CONCAT)?;
            let syntax = Syntax::NotDistinct { left: left.id, right: right.id, negated: !negated };
            return self.node(syntax, left.start, left.height.max(right.height));
        }
        let test = match self.keyword {
            Keyword::Null => Test::Null,
            Keyword::True => Test::True,
            Keyword::False => Test::False,
            _ if self.at_word("unknown") => Test::Unknown,
            _ => return Err(self.unexpected("NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM after IS")),
        };
        self.advance();
        self.node(Syntax::Is { operand: left.id, test, negated }, left.start, left.height)
    }

    fn regex(&mut self, left: Parsed, case_insensitive: bool, negated: bool) -> Result<Parsed, Stop> {
        let pattern = self.expression(CONCAT)?;
        let syntax = Syntax::Regex { operand: left.id, pattern: pattern.id, case_insensitive, negated };
        self.node(syntax, left.start, left.height.max(pattern.height))
    }

    /// What follows BETWEEN, IN, LIKE, ILIKE and REGEXP; the current token is that word.
    fn predicate(&mut self, left: Parsed, keyword: Keyword, negated: bool) -> Result<Parsed, Stop> {
        self.advance();
        match keyword {
            Keyword::Between => {
                let symmetric = self.at_word("symmetric") && {
                    // A field may have this name too.
                    let next = self.peek();
                    !(next.kind == Kind::Word && self::keyword(self.slice(next)) == Keyword::And)
                };
                if symmetric {
                    self.advance();
                }
                let low = self.expression(CONCAT)?;
                if !self.take_keyword(Keyword::And) {
                    return Err(self.unexpected("AND and the upper bound of BETWEEN"));
                }
                let high = self.expression(CONCAT)?;
                let syntax = Syntax::Between { operand: left.id, low: low.id, high: high.id, symmetric, negated };
                self.node(syntax, left.start, left.height.max(low.height).max(high.height))
            }
            Keyword::In => self.membership(left, negated),
            Keyword::Regexp => self.regex(left, false, negated),
            _ => {
                let pattern = self.expression(CONCAT)?;
                let mut height = left.height.max(pattern.height);
                let escape = if self.take_word("escape") {
                    let escape = self.expression(CONCAT)?;
                    height = height.max(escape.height);
                    Some(escape.id)
                } else {
                    None
                };
                let case_insensitive = keyword == Keyword::Ilike;
                let syntax = Syntax::Like { operand: left.id, pattern: pattern.id, escape, case_insensitive, negated };
                self.node(syntax, left.start, height)
            }
        }
    }

    fn membership(&mut self, left: Parsed, negated: bool) -> Result<Parsed, Stop> {
        let word = self.token.start;
        if self.take_word("list") {
            let name = match self.token.kind {
                Kind::Word => Cow::Borrowed(self.slice(self.token)),
                Kind::Quoted => literal::unquote(self.slice(self.token)),
                _ => return Err(self.unexpected("the name of a list")),
            };
            self.advance();
            return self.node(Syntax::InList { operand: left.id, name, word, negated }, left.start, left.height);
        }
        self.expect(Kind::LeftParen, "a list in parentheses, or LIST and a name, after IN")?;
        let (bottom, first) = (self.stack.len(), self.token.start);
        let mut height = left.height;
        let selects = self.take_word("select");
        if self.token.kind != Kind::RightParen {
            loop {
                let entry = self.expression(OR)?;
                self.stack.push(entry.id);
                height = height.max(entry.height);
                if selects || !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        self.end_of_parentheses(selects, "a comma or the closing parenthesis of the list")?;
        let count = self.stack.len() - bottom;
        if count > self.limits.list_entries {
            self.report
                .error("limit", first..self.end, format!("the list has {count} entries"))
                .detail(format!("at most {} are allowed", self.limits.list_entries));
            return Err(Stop);
        }
        let list = self.take_args(bottom);
        self.node(Syntax::In { operand: left.id, list, negated }, left.start, height)
    }

    /// A leaf that is the current token.
    fn leaf(&mut self, syntax: Syntax<'t>) -> Result<Parsed, Stop> {
        let start = self.token.start;
        self.advance();
        self.node(syntax, start, 0)
    }

    fn operand(&mut self) -> Result<Parsed, Stop> {
        let start = self.token.start;
        let slice = self.slice(self.token);
        match self.token.kind {
            Kind::Word => self.word(slice),
            Kind::Number => self.leaf(Syntax::Number(slice)),
            Kind::Text => self.leaf(Syntax::Text(slice)),
            Kind::Parameter => self.leaf(Syntax::Parameter(slice.trim_start_matches(':'))),
            Kind::Quoted => self.field(),
            Kind::LeftParen => {
                self.advance();
                let selects = self.take_word("select");
                let inner = self.expression(OR)?;
                if self.token.kind == Kind::Comma {
                    return self.fail("rows of several values are not supported");
                }
                self.end_of_parentheses(selects, "a closing parenthesis")?;
                Ok(Parsed { start, ..inner })
            }
            Kind::Minus | Kind::Plus => {
                let minus = self.token.kind == Kind::Minus;
                self.advance();
                let operand = self.expression(UNARY)?;
                let syntax = if minus { Syntax::Minus(operand.id) } else { Syntax::Plus(operand.id) };
                self.node(syntax, start, operand.height)
            }
            _ => Err(self.unexpected("a value, a field or a condition")),
        }
    }

    fn word(&mut self, word: &'t str) -> Result<Parsed, Stop> {
        let start = self.token.start;
        match self.keyword {
            Keyword::None | Keyword::Regexp | Keyword::IsNull | Keyword::NotNull => {}
            Keyword::Null => return self.leaf(Syntax::Null),
            Keyword::True => return self.leaf(Syntax::Bool(true)),
            Keyword::False => return self.leaf(Syntax::Bool(false)),
            Keyword::Case => return self.case(),
            Keyword::Not => {
                self.advance();
                let operand = self.expression(NOT)?;
                return self.node(Syntax::Not(operand.id), start, operand.height);
            }
            _ => return Err(self.unexpected("a value, a field or a condition")),
        }
        if let Some(running) = self.semantics() {
            let name = self.slice(self.token);
            if self.peek().kind != Kind::LeftParen {
                return Err(self.unexpected("a function after RUNNING or FINAL"));
            }
            return match self.row_function(name, Some(running))? {
                Some(parsed) => Ok(parsed),
                None => Err(self.unexpected("FIRST, LAST or an aggregate after RUNNING or FINAL")),
            };
        }
        let next = self.peek();
        match next.kind {
            Kind::LeftParen if self.in_pattern => {
                return match self.row_function(word, None)? {
                    Some(parsed) => Ok(parsed),
                    None => self.call(word),
                };
            }
            Kind::LeftParen => return self.call(word),
            Kind::Text => {
                let text = self.slice(next);
                if let Some(syntax) = match () {
                    () if word.eq_ignore_ascii_case("date") => Some(Syntax::Date(text)),
                    () if word.eq_ignore_ascii_case("timestamp") || word.eq_ignore_ascii_case("timestamptz") => {
                        Some(Syntax::Timestamp(text))
                    }
                    () => None,
                } {
                    self.advance();
                    self.advance();
                    return self.node(syntax, start, 0);
                }
                if word.eq_ignore_ascii_case("interval") {
                    return self.interval();
                }
            }
            Kind::Number if word.eq_ignore_ascii_case("interval") => return self.interval(),
            _ => {}
        }
        self.field()
    }

    /// `INTERVAL '…' [unit [TO unit]]`; the current token is the first word.
    fn interval(&mut self) -> Result<Parsed, Stop> {
        let start = self.token.start;
        self.advance();
        let text = self.slice(self.token);
        self.advance();
        let unit = |parser: &mut Self| {
            let word = parser.slice(parser.token);
            let found = parser.token.kind == Kind::Word && literal::is_interval_unit(word);
            found.then(|| {
                parser.advance();
                word
            })
        };
        let first = unit(self);
        let mut last = None;
        if first.is_some() && self.at_word("to") {
            self.advance();
            last = unit(self);
            if last.is_none() {
                return Err(self.unexpected("a unit of time after TO"));
            }
        }
        self.node(Syntax::Interval { text, first, last }, start, 0)
    }

    /// A field, whose name may be of several parts of which some are quoted.
    fn field(&mut self) -> Result<Parsed, Stop> {
        let start = self.token.start;
        let mut name = self.name_part();
        self.advance();
        while self.token.kind == Kind::Dot {
            self.advance();
            if !matches!(self.token.kind, Kind::Word | Kind::Quoted) {
                return Err(self.unexpected("a name after the dot"));
            }
            name = Cow::Owned(format!("{name}.{}", self.name_part()));
            self.advance();
        }
        self.node(Syntax::Field(name), start, 0)
    }

    fn name_part(&self) -> Cow<'t, str> {
        let slice = self.slice(self.token);
        if self.token.kind == Kind::Quoted { literal::unquote(slice) } else { Cow::Borrowed(slice) }
    }

    fn case(&mut self) -> Result<Parsed, Stop> {
        let start = self.token.start;
        self.advance();
        let (bottom, mut height) = (self.stack.len(), 0);
        let simple = self.keyword != Keyword::When;
        if simple {
            self.pushed(&mut height)?;
        }
        if self.keyword != Keyword::When {
            return Err(self.unexpected("WHEN"));
        }
        while self.take_keyword(Keyword::When) {
            self.pushed(&mut height)?;
            if !self.take_keyword(Keyword::Then) {
                return Err(self.unexpected("THEN"));
            }
            self.pushed(&mut height)?;
        }
        let otherwise = self.take_keyword(Keyword::Else);
        if otherwise {
            self.pushed(&mut height)?;
        }
        if !self.take_keyword(Keyword::End) {
            return Err(self.unexpected(if otherwise { "END" } else { "WHEN, ELSE or END" }));
        }
        let args = self.take_args(bottom);
        self.node(Syntax::Case { args, simple, otherwise }, start, height)
    }

    /// Reads one expression onto the stack.
    fn pushed(&mut self, height: &mut usize) -> Result<(), Stop> {
        let parsed = self.expression(OR)?;
        self.stack.push(parsed.id);
        *height = (*height).max(parsed.height);
        Ok(())
    }
}

/// A piece of text short enough for a message.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

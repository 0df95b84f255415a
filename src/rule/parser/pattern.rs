//! The clause MATCH_RECOGNIZE: its parts in the order of the standard, each but PATTERN optional.

use super::{OR, Parsed, Parser, Stop};
use crate::pattern::Output;
use crate::rule::Clause as Form;
use crate::rule::ast::{Ast, AstId, MatchFunction, Navigate, Syntax};
use crate::rule::lexer::Kind;
use crate::rule::limits::Limits;
use crate::rule::report::Report;
use std::borrow::Cow;
use std::ops::Range;

/// A name, as it counts, and where it stands.
#[derive(Clone, Debug)]
pub struct Name<'t> {
    pub name: Cow<'t, str>,
    pub span: Range<usize>,
}

/// A row pattern.
#[derive(Clone, Debug)]
pub enum Term<'t> {
    /// A variable.
    Row(Name<'t>),
    Empty,
    Start,
    End,
    Sequence(Vec<Term<'t>>),
    Either(Vec<Term<'t>>),
    /// `PERMUTE(…)`
    Permute(Vec<Term<'t>>),
    /// `{- … -}`
    Excluded(Box<Term<'t>>),
    Repeated {
        term: Box<Term<'t>>,
        least: u32,
        most: Option<u32>,
        greedy: bool,
    },
    /// Of a sequence: see [`crate::pattern::Step::Await`].
    Await {
        name: Option<Name<'t>>,
        also: Option<Name<'t>>,
        except: [Option<Name<'t>>; 2],
    },
}

#[derive(Clone, Debug)]
pub struct OrderItem<'t> {
    pub field: Name<'t>,
    pub descending: bool,
    pub nulls_first: Option<bool>,
}

/// An expression: its nodes end at `root`.
#[derive(Clone, Debug)]
pub struct Item<'t> {
    pub name: Name<'t>,
    pub root: AstId,
}

#[derive(Clone, Debug)]
pub enum SkipTo<'t> {
    PastLastRow,
    NextRow,
    First(Name<'t>),
    Last(Name<'t>),
}

/// The parts of the clause.
#[derive(Debug)]
pub struct Clause<'t> {
    pub partition_by: Vec<Name<'t>>,
    /// `None`: the event time, which sequences are in the order of.
    pub order_by: Option<Vec<OrderItem<'t>>>,
    pub measures: Vec<Item<'t>>,
    pub output: Output,
    pub skip: SkipTo<'t>,
    pub pattern: Term<'t>,
    pub pattern_span: Range<usize>,
    /// The interval.
    pub within: Option<AstId>,
    pub subsets: Vec<(Name<'t>, Vec<Name<'t>>)>,
    pub defines: Vec<Item<'t>>,
}

/// A name as SQL counts it: what is not quoted is upper case.
pub fn folded(name: Cow<'_, str>, quoted: bool) -> Cow<'_, str> {
    if quoted || !name.chars().any(char::is_lowercase) { name } else { Cow::Owned(name.to_uppercase()) }
}

/// Reads a pattern as what `form` says: the body of a MATCH_RECOGNIZE, or a sequence as such a one. `None`: a syntax error, which is in the report.
pub fn parse<'t>(text: &'t str, form: Form, limits: &Limits, report: &mut Report<'t>) -> Option<(Clause<'t>, Ast<'t>)> {
    let mut parser = Parser::new(text, true, limits, report)?;
    let clause = if form == Form::Sequence { parser.sequence_clause() } else { parser.clause() };
    Some((clause.ok()?, parser.ast))
}

impl<'t> Parser<'t, '_> {
    fn clause(&mut self) -> Result<Clause<'t>, Stop> {
        let mut partition_by = Vec::new();
        if self.take_word("partition") {
            self.expect_word("BY")?;
            partition_by = self.names("the name of a field")?;
        }
        let mut order_by = Vec::new();
        if self.take_word("order") {
            self.expect_word("BY")?;
            loop {
                order_by.push(self.order_item()?);
                if !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        let measures = self.measures()?;
        let output = self.output()?;
        let skip = self.skip()?;
        self.take_word("initial");
        if self.at_word("seek") {
            return self.fail("SEEK looks for one match only, and is not supported");
        }
        self.expect_word("PATTERN")?;
        let start = self.token.start;
        self.expect(Kind::LeftParen, "the pattern in parentheses")?;
        let pattern = self.alternatives()?;
        self.expect(Kind::RightParen, "a variable, an operator or the closing parenthesis of the pattern")?;
        let pattern_span = start..self.end;
        let mut within = None;
        if self.take_word("within") {
            within = Some(self.expression(OR)?.id);
        }
        let mut subsets = Vec::new();
        if self.take_word("subset") {
            loop {
                let name = self.name("the name of the subset", true)?;
                self.expect(Kind::Equal, "=")?;
                self.expect(Kind::LeftParen, "variables in parentheses")?;
                let members = self.variables()?;
                self.expect(Kind::RightParen, "a comma or a closing parenthesis")?;
                subsets.push((name, members));
                if !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        let mut defines = Vec::new();
        if self.take_word("define") {
            loop {
                let name = self.name("the name of a variable", true)?;
                self.expect_word("AS")?;
                defines.push(Item { name, root: self.expression(OR)?.id });
                if !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        self.clause_end("a comma or the end of the clause")?;
        let order_by = Some(order_by);
        Ok(Clause { partition_by, order_by, measures, output, skip, pattern, pattern_span, within, subsets, defines })
    }

    pub(super) fn clause_end(&mut self, expected: &str) -> Result<(), Stop> {
        self.take(Kind::Semicolon);
        if self.token.kind == Kind::End { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    pub(super) fn measures(&mut self) -> Result<Vec<Item<'t>>, Stop> {
        let mut measures = Vec::new();
        if self.take_word("measures") {
            loop {
                let root = self.expression(OR)?.id;
                self.expect_word("AS")?;
                measures.push(Item { name: self.name("the name of the measure", false)?, root });
                if !self.take(Kind::Comma) {
                    break;
                }
            }
        }
        Ok(measures)
    }

    /// A name; variables are folded as SQL does it.
    pub(super) fn name(&mut self, expected: &str, variable: bool) -> Result<Name<'t>, Stop> {
        if !matches!(self.token.kind, Kind::Word | Kind::Quoted) {
            return Err(self.unexpected(expected));
        }
        let (part, quoted) = (self.name_part(), self.token.kind == Kind::Quoted);
        let span = self.token.start..self.token.end;
        self.advance();
        Ok(Name { name: if variable { folded(part, quoted) } else { part }, span })
    }

    pub(super) fn names(&mut self, expected: &str) -> Result<Vec<Name<'t>>, Stop> {
        let mut names = vec![self.name(expected, false)?];
        while self.take(Kind::Comma) {
            names.push(self.name(expected, false)?);
        }
        Ok(names)
    }

    fn variables(&mut self) -> Result<Vec<Name<'t>>, Stop> {
        let mut names = vec![self.name("the name of a variable", true)?];
        while self.take(Kind::Comma) {
            names.push(self.name("the name of a variable", true)?);
        }
        Ok(names)
    }

    fn order_item(&mut self) -> Result<OrderItem<'t>, Stop> {
        let field = self.name("the name of a field", false)?;
        let descending = self.take_word("desc") || {
            self.take_word("asc");
            false
        };
        let mut nulls_first = None;
        if self.take_word("nulls") {
            nulls_first = Some(self.take_word("first"));
            if nulls_first == Some(false) {
                self.expect_word("LAST")?;
            }
        }
        Ok(OrderItem { field, descending, nulls_first })
    }

    fn words(&mut self, words: &[&str]) -> Result<(), Stop> {
        words.iter().try_for_each(|word| self.expect_word(word))
    }

    pub(super) fn output(&mut self) -> Result<Output, Stop> {
        if self.take_word("one") {
            self.words(&["ROW", "PER", "MATCH"])?;
            return Ok(Output::OneRow);
        }
        if !self.take_word("all") {
            return Ok(Output::OneRow);
        }
        self.words(&["ROWS", "PER", "MATCH"])?;
        let (mut empty, mut unmatched) = (true, false);
        if self.take_word("show") {
            self.words(&["EMPTY", "MATCHES"])?;
        } else if self.take_word("omit") {
            self.words(&["EMPTY", "MATCHES"])?;
            empty = false;
        } else if self.take_word("with") {
            self.words(&["UNMATCHED", "ROWS"])?;
            unmatched = true;
        }
        Ok(Output::AllRows { empty, unmatched })
    }

    pub(super) fn skip(&mut self) -> Result<SkipTo<'t>, Stop> {
        if !self.take_word("after") {
            return Ok(SkipTo::PastLastRow);
        }
        self.words(&["MATCH", "SKIP"])?;
        if self.take_word("past") {
            self.words(&["LAST", "ROW"])?;
            return Ok(SkipTo::PastLastRow);
        }
        self.expect_word("TO")?;
        // A variable may have any of these names too.
        let next = self.peek();
        let is_name = matches!(next.kind, Kind::Word | Kind::Quoted);
        let next = self.slice(next);
        if self.at_word("next") && next.eq_ignore_ascii_case("row") {
            self.words(&["NEXT", "ROW"])?;
            return Ok(SkipTo::NextRow);
        }
        let follows = ["initial", "seek", "pattern"].iter().any(|word| next.eq_ignore_ascii_case(word));
        if is_name && !follows && self.take_word("first") {
            return Ok(SkipTo::First(self.name("the name of a variable", true)?));
        }
        if is_name && !follows {
            self.take_word("last");
        }
        Ok(SkipTo::Last(self.name("FIRST, LAST or the name of a variable", true)?))
    }

    fn alternatives(&mut self) -> Result<Term<'t>, Stop> {
        if self.depth >= self.limits.nesting {
            return Err(self.too_deep(self.token.start));
        }
        self.depth += 1;
        let mut terms = vec![self.sequence()?];
        while self.take(Kind::Bar) {
            terms.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if terms.len() == 1 { terms.remove(0) } else { Term::Either(terms) })
    }

    fn sequence(&mut self) -> Result<Term<'t>, Stop> {
        let mut terms = Vec::new();
        while let Some(term) = self.pattern_primary()? {
            terms.push(self.repeated(term)?);
        }
        Ok(match terms.len() {
            0 => return Err(self.unexpected("a pattern variable")),
            1 => terms.remove(0),
            _ => Term::Sequence(terms),
        })
    }

    fn pattern_primary(&mut self) -> Result<Option<Term<'t>>, Stop> {
        let permutes = self.at_word("permute") && self.peek().kind == Kind::LeftParen;
        let term = match self.token.kind {
            Kind::Caret => Term::Start,
            Kind::Dollar => Term::End,
            Kind::LeftParen => {
                self.advance();
                if self.take(Kind::RightParen) {
                    return Ok(Some(Term::Empty));
                }
                let inner = self.alternatives()?;
                self.expect(Kind::RightParen, "a variable, an operator or a closing parenthesis")?;
                return Ok(Some(inner));
            }
            Kind::ExcludeOpen => {
                self.advance();
                let inner = self.alternatives()?;
                self.expect(Kind::ExcludeClose, "-}")?;
                return Ok(Some(Term::Excluded(Box::new(inner))));
            }
            Kind::Word if permutes => {
                self.advance();
                self.advance();
                let mut terms = vec![self.alternatives()?];
                while self.take(Kind::Comma) {
                    terms.push(self.alternatives()?);
                }
                self.expect(Kind::RightParen, "a comma or a closing parenthesis")?;
                return Ok(Some(Term::Permute(terms)));
            }
            Kind::Word | Kind::Quoted => return Ok(Some(Term::Row(self.name("a variable", true)?))),
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(term))
    }

    fn repeated(&mut self, term: Term<'t>) -> Result<Term<'t>, Stop> {
        let (least, most) = match self.token.kind {
            Kind::Star => (0, None),
            Kind::Plus => (1, None),
            Kind::Question => (0, Some(1)),
            Kind::LeftBrace => {
                self.advance();
                let least = self.count()?;
                let most = if self.take(Kind::Comma) {
                    self.count()?
                } else if least.is_none() {
                    return Err(self.unexpected("a whole number"));
                } else {
                    least
                };
                if self.token.kind != Kind::RightBrace {
                    return Err(self.unexpected("a whole number or }"));
                }
                (least.unwrap_or(0), most)
            }
            _ => return Ok(term),
        };
        self.advance();
        let greedy = !self.take(Kind::Question);
        if matches!(self.token.kind, Kind::Star | Kind::Plus | Kind::Question | Kind::LeftBrace) {
            return self.fail("a quantifier follows another; put what the first applies to in parentheses");
        }
        Ok(Term::Repeated { term: Box::new(term), least, most, greedy })
    }

    pub(super) fn count(&mut self) -> Result<Option<u32>, Stop> {
        if self.token.kind != Kind::Number {
            return Ok(None);
        }
        let Ok(count) = self.slice(self.token).parse() else { return Err(self.unexpected("a whole number")) };
        self.advance();
        Ok(Some(count))
    }

    /// RUNNING or FINAL before a call: `Some(running)`.
    pub(super) fn semantics(&mut self) -> Option<bool> {
        if !self.in_pattern || self.peek().kind != Kind::Word {
            return None;
        }
        let running = self.at_word("running");
        (running || self.at_word("final")).then(|| {
            self.advance();
            running
        })
    }

    /// A function that looks at several rows; the current token is its name, a parenthesis follows. `None`: it is another one.
    pub(super) fn row_function(&mut self, name: &str, running: Option<bool>) -> Result<Option<Parsed>, Stop> {
        let start = self.token.start;
        let way = match name.to_ascii_lowercase().as_str() {
            "prev" => Navigate::Prev,
            "next" => Navigate::Next,
            "first" => Navigate::First,
            "last" => Navigate::Last,
            "classifier" => {
                self.advance();
                self.advance();
                let of = if self.token.kind == Kind::RightParen { None } else { Some(self.name("a variable", true)?.name) };
                self.expect(Kind::RightParen, "a closing parenthesis")?;
                return self.node(Syntax::Classifier(of), start, 0).map(Some);
            }
            name @ ("match_number" | "match_rowtime") => {
                self.advance();
                self.advance();
                self.expect(Kind::RightParen, "a closing parenthesis")?;
                let syntax = if name == "match_number" { Syntax::MatchNumber } else { Syntax::MatchRowtime };
                return self.node(syntax, start, 0).map(Some);
            }
            name => {
                let Some(function) = aggregate(name) else { return Ok(None) };
                return self.aggregate(function, running).map(Some);
            }
        };
        self.advance();
        self.advance();
        let operand = self.expression(OR)?;
        let mut offset = None;
        if self.take(Kind::Comma) {
            let Ok(number) = self.slice(self.token).parse::<u32>() else { return Err(self.unexpected("a whole number")) };
            self.advance();
            offset = Some(number);
        }
        self.expect(Kind::RightParen, "a comma or a closing parenthesis")?;
        self.node(Syntax::Navigate { way, operand: operand.id, offset, running }, start, operand.height).map(Some)
    }

    fn aggregate(&mut self, function: MatchFunction, running: Option<bool>) -> Result<Parsed, Stop> {
        use MatchFunction::{Count, List, MaximumBy, MinimumBy};
        let start = self.token.start;
        self.advance();
        self.advance();
        let distinct = self.take_word("distinct");
        let (mut argument, mut second, mut rows, mut height) = (None, None, None, 0);
        let next = self.peek();
        let empty = self.token.kind == Kind::RightParen && function == Count;
        if empty || self.take(Kind::Star) {
            rows = Some(None);
        } else if matches!(self.token.kind, Kind::Word | Kind::Quoted) && next.kind == Kind::Dot && self.star_follows() {
            rows = Some(Some(self.name("a variable", true)?.name));
            self.advance();
            self.advance();
        } else {
            let parsed = self.expression(OR)?;
            (argument, height) = (Some(parsed.id), parsed.height);
            if matches!(function, List | MinimumBy | MaximumBy) && self.take(Kind::Comma) {
                let parsed = self.expression(OR)?;
                (second, height) = (Some(parsed.id), height.max(parsed.height));
            }
        }
        self.expect(Kind::RightParen, "a closing parenthesis")?;
        let by = matches!(function, MinimumBy | MaximumBy);
        let wrong = if rows.is_some() && (function != Count || distinct) {
            "only COUNT takes rows"
        } else if by && (second.is_none() || distinct) {
            "MIN_BY and MAX_BY take a value and what to compare its row by"
        } else {
            ""
        };
        if !wrong.is_empty() {
            self.report.error("wrong-arguments", start..self.end, wrong);
            return Err(Stop);
        }
        if self.at_word("within") && function == List {
            return self.fail("LISTAGG has the rows in the order of the match, and takes no other");
        }
        let mut filter = None;
        if self.at_word("filter") && self.peek().kind == Kind::LeftParen {
            self.advance();
            self.advance();
            if !self.take_keyword_where() {
                return Err(self.unexpected("WHERE"));
            }
            let parsed = self.expression(OR)?;
            height = height.max(parsed.height);
            filter = Some(parsed.id);
            self.expect(Kind::RightParen, "a closing parenthesis")?;
        }
        self.node(Syntax::Aggregate { function, distinct, argument, second, rows, filter, running }, start, height)
    }

    fn take_keyword_where(&mut self) -> bool {
        self.take_word("where")
    }

    /// Whether `.*` follows the current token.
    fn star_follows(&self) -> bool {
        let mut lexer = self.lexer.clone();
        // `peek` has read the dot already.
        if let Some((_, behind)) = &self.ahead {
            lexer = behind.clone();
        }
        lexer.next_token().kind == Kind::Star
    }
}

/// The aggregate of this name, in lower case.
pub fn aggregate(name: &str) -> Option<MatchFunction> {
    Some(match name {
        "count" => MatchFunction::Count,
        "sum" => MatchFunction::Sum,
        "avg" => MatchFunction::Average,
        "min" => MatchFunction::Minimum,
        "max" => MatchFunction::Maximum,
        "stddev" | "stddev_samp" => MatchFunction::Deviation,
        "array_agg" => MatchFunction::Array,
        "any_value" | "arbitrary" => MatchFunction::Any,
        "every" | "bool_and" => MatchFunction::Every,
        "some" | "any" | "bool_or" => MatchFunction::Some,
        "listagg" | "string_agg" => MatchFunction::List,
        "min_by" => MatchFunction::MinimumBy,
        "max_by" => MatchFunction::MaximumBy,
        _ => return None,
    })
}

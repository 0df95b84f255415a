//! A sequence: steps that rows take one after the other, with other rows between. It becomes a clause MATCH_RECOGNIZE, whose checks are its own.

use super::pattern::{Clause, Item, Name, Term};
use super::{Keyword, OR, Parser, Stop};
use crate::rule::lexer::Kind;
use std::ops::Range;

/// A step, or what must not come: its condition, as the definition of a variable.
struct Bracket<'t> {
    item: Item<'t>,
    span: Range<usize>,
}

struct Steps<'t> {
    terms: Vec<Term<'t>>,
    defines: Vec<Item<'t>>,
    /// The step before, where it may repeat.
    also: Option<Name<'t>>,
    /// What must not come before the next step.
    not: Option<Bracket<'t>>,
}

impl<'t> Parser<'t, '_> {
    /// `[BY field, …] [WITHIN interval] step … [UNTIL [condition]]`, then MEASURES, the rows that are put out, and AFTER MATCH SKIP.
    pub(super) fn sequence_clause(&mut self) -> Result<Clause<'t>, Stop> {
        let partition_by = if self.take_word("by") { self.names("the name of a field")? } else { Vec::new() };
        let within = if self.take_word("within") { Some(self.expression(OR)?.id) } else { None };
        if self.token.kind != Kind::LeftBracket {
            return Err(self.unexpected(match (&within, partition_by.is_empty()) {
                (Some(_), _) => "a step in brackets",
                (None, false) => "a comma, WITHIN or a step in brackets",
                (None, true) => "BY, WITHIN or a step in brackets",
            }));
        }
        let start = self.token.start;
        let mut steps = Steps { terms: Vec::new(), defines: Vec::new(), also: None, not: None };
        loop {
            let then = self.take_keyword(Keyword::Then);
            if then && self.take_keyword(Keyword::Not) {
                self.absence(&mut steps)?;
            } else if self.token.kind == Kind::LeftBracket {
                self.step(&mut steps)?;
            } else if then {
                return Err(self.unexpected("a step in brackets, or NOT and one"));
            } else {
                break;
            }
        }
        let Steps { mut terms, mut defines, also, not } = steps;
        if let Some(Bracket { item, span }) = not {
            if within.is_none() {
                self.report
                    .error("absence-without-within", span, "nothing says how long to wait for what must not come")
                    .hint("put WITHIN INTERVAL … before the steps");
            }
            terms.push(Term::Await { name: None, also, except: [Some(item.name.clone()), None] });
            defines.push(item);
        }
        if self.take_word("until") {
            let Bracket { item, span } = self.bracket("UNTIL")?;
            if !until(&mut terms, &item.name) {
                let primary = "there is nothing to end: a match is complete with its first row";
                self.report.error("syntax", span, primary).hint("UNTIL ends the wait for a further step, or for what must not come");
                return Err(Stop);
            }
            defines.push(item);
        }
        let pattern_span = start..self.end;
        let measures = self.measures()?;
        let output = self.output()?;
        let skip = self.skip()?;
        self.clause_end("THEN, a step in brackets, UNTIL, MEASURES, ONE ROW, ALL ROWS, AFTER MATCH SKIP or the end of the sequence")?;
        let pattern = Term::Sequence(terms);
        Ok(Clause { partition_by, order_by: None, measures, output, skip, pattern, pattern_span, within, subsets: Vec::new(), defines })
    }

    /// `[condition]`; it has this name.
    fn bracket(&mut self, name: &str) -> Result<Bracket<'t>, Stop> {
        let start = self.token.start;
        self.expect(Kind::LeftBracket, "a condition in brackets")?;
        let root = self.expression(OR)?.id;
        self.expect(Kind::RightBracket, "an operator or the closing bracket")?;
        let span = start..self.end;
        Ok(Bracket { item: Item { name: Name { name: name.to_owned().into(), span: span.clone() }, root }, span })
    }

    /// What follows THEN NOT.
    fn absence(&mut self, steps: &mut Steps<'t>) -> Result<(), Stop> {
        let place = steps.place();
        let bracket = self.bracket(&place)?;
        if steps.not.is_some() {
            let primary = "there is a NOT between these two steps already";
            self.report.error("syntax", bracket.span, primary).hint("join the conditions by OR");
            return Err(Stop);
        }
        steps.not = Some(bracket);
        Ok(())
    }

    /// `[condition]`, how often it is taken, and its name.
    fn step(&mut self, steps: &mut Steps<'t>) -> Result<(), Stop> {
        let place = steps.place();
        let Bracket { mut item, .. } = self.bracket(&place)?;
        let (least, more) = self.times()?;
        if self.take_word("as") {
            item.name = self.name("the name of the step", true)?;
        }
        let name = item.name.clone();
        let mut again = least;
        let not = steps.not.take().map(|not| {
            let name = not.item.name.clone();
            steps.defines.push(not.item);
            name
        });
        let also = steps.also.take();
        if steps.terms.is_empty() {
            steps.terms.push(Term::Row(name.clone()));
            again -= 1;
        } else if also.is_some() || not.is_some() {
            // What is between the steps is not between the rows of one.
            steps.terms.push(Term::Await { name: Some(name.clone()), also, except: [not, None] });
            again -= 1;
        }
        if again > 0 {
            let term = Box::new(Term::Await { name: Some(name.clone()), also: None, except: [None, None] });
            steps.terms.push(Term::Repeated { term, least: again, most: Some(again), greedy: true });
        }
        steps.also = more.then_some(name);
        steps.defines.push(item);
        Ok(())
    }

    /// How many rows a step takes: at least so many, and whether more.
    fn times(&mut self) -> Result<(u32, bool), Stop> {
        let times = match self.token.kind {
            Kind::Plus => (1, true),
            Kind::LeftBrace => {
                self.advance();
                let start = self.token.start;
                let Some(least) = self.count()? else { return Err(self.unexpected("a whole number")) };
                if least == 0 {
                    self.report.error("syntax", start..self.end, "a step takes at least one row");
                    return Err(Stop);
                }
                let more = self.take(Kind::Comma);
                if self.token.kind != Kind::RightBrace {
                    return Err(self.unexpected("}, as a step is taken {n} or {n,} times"));
                }
                (least, more)
            }
            Kind::Star | Kind::Question => {
                let primary = "a step of a sequence is always taken";
                self.report
                    .error("syntax", self.token.start..self.token.end, primary)
                    .hint("its quantifiers are {n}, {n,} and +; match_recognize has those that may take no row");
                return Err(Stop);
            }
            _ => return Ok((1, false)),
        };
        self.advance();
        Ok(times)
    }
}

impl Steps<'_> {
    /// The name of a step that is given none: its place.
    fn place(&self) -> String {
        (self.defines.len() + usize::from(self.not.is_some()) + 1).to_string()
    }
}

/// Ends each wait at a row of this variable. Whether there is any.
fn until<'t>(terms: &mut [Term<'t>], name: &Name<'t>) -> bool {
    let mut waits = false;
    for term in terms {
        match term {
            Term::Await { except, .. } => {
                except[1] = Some(name.clone());
                waits = true;
            }
            Term::Repeated { term, .. } => waits |= until(std::slice::from_mut(term), name),
            _ => {}
        }
    }
    waits
}

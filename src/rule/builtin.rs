//! The functions of the language by their names.

use crate::expr::{DatePart, Function};

/// What a name before a parenthesis stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Function(Function),
    Extract(DatePart),
    Cast,
    ExtractFrom,
    /// `DATE_PART('hour', x)`
    DatePart,
    /// Arguments in the order haystack, needle.
    PositionReversed,
    NullIf,
    Modulo,
    If,
    Pi,
    /// `REGEXP_LIKE(x, 'pattern' [, 'i'])`
    RegexpLike,
    /// Known, but it belongs to windows and groups.
    Aggregate,
}

/// Lower-case name, meaning, fewest and most arguments; ordered by name.
pub const BUILTINS: &[(&str, Builtin, usize, usize)] = {
    use Builtin::{Aggregate, Cast, ExtractFrom, If, Modulo, NullIf, Pi, PositionReversed, RegexpLike};
    use Function as F;
    const fn f(function: Function) -> Builtin {
        Builtin::Function(function)
    }
    const fn e(part: DatePart) -> Builtin {
        Builtin::Extract(part)
    }
    const MANY: usize = usize::MAX;
    &[
        ("abs", f(F::Abs), 1, 1),
        ("acos", f(F::Acos), 1, 1),
        ("asin", f(F::Asin), 1, 1),
        ("atan", f(F::Atan), 1, 1),
        ("atan2", f(F::Atan2), 2, 2),
        ("avg", Aggregate, 0, MANY),
        ("btrim", f(F::Trim), 1, 2),
        ("cast", Cast, 1, 1),
        ("ceil", f(F::Ceil), 1, 1),
        ("ceiling", f(F::Ceil), 1, 1),
        ("char_length", f(F::Length), 1, 1),
        ("character_length", f(F::Length), 1, 1),
        ("coalesce", f(F::Coalesce), 1, MANY),
        ("concat", f(F::Concat), 1, MANY),
        ("contains", f(F::Contains), 2, 2),
        ("cos", f(F::Cos), 1, 1),
        ("count", Aggregate, 0, MANY),
        ("date_part", Builtin::DatePart, 2, 2),
        ("day", e(DatePart::Day), 1, 1),
        ("dayofmonth", e(DatePart::Day), 1, 1),
        ("dayofweek", e(DatePart::DayOfWeek), 1, 1),
        ("dayofyear", e(DatePart::DayOfYear), 1, 1),
        ("degrees", f(F::Degrees), 1, 1),
        ("dense_rank", Aggregate, 0, MANY),
        ("ends_with", f(F::EndsWith), 2, 2),
        ("epoch", e(DatePart::Epoch), 1, 1),
        ("exp", f(F::Exp), 1, 1),
        ("extract", ExtractFrom, 1, 1),
        ("first_value", Aggregate, 0, MANY),
        ("floor", f(F::Floor), 1, 1),
        ("greatest", f(F::Greatest), 1, MANY),
        ("hour", e(DatePart::Hour), 1, 1),
        ("if", If, 3, 3),
        ("ifnull", f(F::Coalesce), 2, 2),
        ("iif", If, 3, 3),
        ("instr", PositionReversed, 2, 2),
        ("isodow", e(DatePart::IsoDayOfWeek), 1, 1),
        ("lag", Aggregate, 0, MANY),
        ("last_value", Aggregate, 0, MANY),
        ("lcase", f(F::Lower), 1, 1),
        ("lead", Aggregate, 0, MANY),
        ("least", f(F::Least), 1, MANY),
        ("left", f(F::Left), 2, 2),
        ("length", f(F::Length), 1, 1),
        ("ln", f(F::Ln), 1, 1),
        ("log", f(F::Log10), 1, 1),
        ("log10", f(F::Log10), 1, 1),
        ("lower", f(F::Lower), 1, 1),
        ("ltrim", f(F::TrimStart), 1, 2),
        ("max", Aggregate, 0, MANY),
        ("min", Aggregate, 0, MANY),
        ("minute", e(DatePart::Minute), 1, 1),
        ("mod", Modulo, 2, 2),
        ("month", e(DatePart::Month), 1, 1),
        ("nullif", NullIf, 2, 2),
        ("pi", Pi, 0, 0),
        ("position", f(F::Position), 2, 2),
        ("pow", f(F::Power), 2, 2),
        ("power", f(F::Power), 2, 2),
        ("quarter", e(DatePart::Quarter), 1, 1),
        ("radians", f(F::Radians), 1, 1),
        ("rank", Aggregate, 0, MANY),
        ("regexp_like", RegexpLike, 2, 3),
        ("regexp_matches", RegexpLike, 2, 3),
        ("replace", f(F::Replace), 3, 3),
        ("right", f(F::Right), 2, 2),
        ("round", f(F::Round), 1, 2),
        ("row_number", Aggregate, 0, MANY),
        ("rtrim", f(F::TrimEnd), 1, 2),
        ("second", e(DatePart::Second), 1, 1),
        ("sign", f(F::Sign), 1, 1),
        ("sin", f(F::Sin), 1, 1),
        ("sqrt", f(F::Sqrt), 1, 1),
        ("starts_with", f(F::StartsWith), 2, 2),
        ("stddev", Aggregate, 0, MANY),
        ("stddev_samp", Aggregate, 0, MANY),
        ("strpos", PositionReversed, 2, 2),
        ("substr", f(F::Substring), 2, 3),
        ("substring", f(F::Substring), 2, 3),
        ("sum", Aggregate, 0, MANY),
        ("tan", f(F::Tan), 1, 1),
        ("trim", f(F::Trim), 1, 2),
        ("trunc", f(F::Truncate), 1, 1),
        ("truncate", f(F::Truncate), 1, 1),
        ("ucase", f(F::Upper), 1, 1),
        ("upper", f(F::Upper), 1, 1),
        ("week", e(DatePart::Week), 1, 1),
        ("year", e(DatePart::Year), 1, 1),
    ]
};

/// The builtin of this name, in any case of letters, and the fewest and most arguments that it takes.
#[must_use]
pub fn find(name: &str) -> Option<(Builtin, usize, usize)> {
    let mut buffer = [0; 16];
    let lower = lower_case(name, &mut buffer)?;
    let at = BUILTINS.binary_search_by(|entry| entry.0.as_bytes().cmp(lower)).ok()?;
    let (_, builtin, fewest, most) = BUILTINS[at];
    Some((builtin, fewest, most))
}

/// `name` in lower case, if it fits into the buffer.
pub fn lower_case<'b>(name: &str, buffer: &'b mut [u8; 16]) -> Option<&'b [u8]> {
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    Some(lower)
}

/// The name under which `function` is printed.
#[must_use]
pub const fn name(function: Function) -> &'static str {
    match function {
        Function::Lower => "LOWER",
        Function::Upper => "UPPER",
        Function::Length => "LENGTH",
        Function::Trim => "TRIM",
        Function::TrimStart => "LTRIM",
        Function::TrimEnd => "RTRIM",
        Function::Substring => "SUBSTRING",
        Function::Left => "LEFT",
        Function::Right => "RIGHT",
        Function::StartsWith => "STARTS_WITH",
        Function::EndsWith => "ENDS_WITH",
        Function::Contains => "CONTAINS",
        Function::Position => "POSITION",
        Function::Replace => "REPLACE",
        Function::Concat => "CONCAT",
        Function::Abs => "ABS",
        Function::Sign => "SIGN",
        Function::Round => "ROUND",
        Function::Floor => "FLOOR",
        Function::Ceil => "CEIL",
        Function::Truncate => "TRUNC",
        Function::Sqrt => "SQRT",
        Function::Exp => "EXP",
        Function::Ln => "LN",
        Function::Log10 => "LOG10",
        Function::Power => "POWER",
        Function::Sin => "SIN",
        Function::Cos => "COS",
        Function::Tan => "TAN",
        Function::Asin => "ASIN",
        Function::Acos => "ACOS",
        Function::Atan => "ATAN",
        Function::Atan2 => "ATAN2",
        Function::Radians => "RADIANS",
        Function::Degrees => "DEGREES",
        Function::Greatest => "GREATEST",
        Function::Least => "LEAST",
        Function::Coalesce => "COALESCE",
    }
}

/// The part of a date that `name` names, in any case of letters.
#[must_use]
pub fn date_part(name: &str) -> Option<DatePart> {
    let mut buffer = [0; 16];
    Some(match lower_case(name, &mut buffer)? {
        b"year" => DatePart::Year,
        b"quarter" => DatePart::Quarter,
        b"month" => DatePart::Month,
        b"week" => DatePart::Week,
        b"day" => DatePart::Day,
        b"dow" | b"dayofweek" => DatePart::DayOfWeek,
        b"isodow" => DatePart::IsoDayOfWeek,
        b"doy" | b"dayofyear" => DatePart::DayOfYear,
        b"hour" => DatePart::Hour,
        b"minute" => DatePart::Minute,
        b"second" => DatePart::Second,
        b"epoch" => DatePart::Epoch,
        _ => return None,
    })
}

/// The name under which `part` is printed.
#[must_use]
pub const fn date_part_name(part: DatePart) -> &'static str {
    match part {
        DatePart::Year => "YEAR",
        DatePart::Quarter => "QUARTER",
        DatePart::Month => "MONTH",
        DatePart::Week => "WEEK",
        DatePart::Day => "DAY",
        DatePart::DayOfWeek => "DOW",
        DatePart::IsoDayOfWeek => "ISODOW",
        DatePart::DayOfYear => "DOY",
        DatePart::Hour => "HOUR",
        DatePart::Minute => "MINUTE",
        DatePart::Second => "SECOND",
        DatePart::Epoch => "EPOCH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_so_that_they_can_be_searched() {
        assert!(BUILTINS.is_sorted_by(|a, b| a.0 < b.0));
        for &(name, builtin, fewest, most) in BUILTINS {
            assert_eq!(find(&name.to_uppercase()), Some((builtin, fewest, most)), "{name}");
        }
        assert_eq!(find("nothing"), None);
        assert_eq!(find(&"x".repeat(100)), None);
    }
}

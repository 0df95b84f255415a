use super::*;
use crate::event::Value::{Bool, Date, Float, Int, Null, UInt};
use crate::expr::Function;

fn decimal(units: i128, scale: u8) -> Value {
    Value::Decimal { units, scale }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn interval(months: i32, days: i32, nanoseconds: i64) -> Value {
    Value::Interval { months, days, nanoseconds }
}

fn instant(text: &str) -> Value {
    let unit = TimeUnit::Millisecond;
    Value::Timestamp { ticks: time::parse_timestamp(text, unit).unwrap(), unit }
}

const MOST: i128 = 10_i128.pow(38) - 1;
const D2: Type = Type::Decimal { scale: 2 };

#[test]
fn numbers_compare_exactly() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let cases = [
        (Int(-1), UInt(u64::MAX), Less),
        (Int(i64::MAX), UInt(i64::MAX as u64 + 1), Less),
        (Int(1), decimal(150, 2), Less),
        (Int(2), decimal(200, 2), Equal),
        (decimal(MOST, 0), decimal(MOST, 38), Greater),
        (decimal(-MOST, 0), decimal(MOST, 38), Less),
        (decimal(0, 0), decimal(1, 38), Less),
        (decimal(MOST, 37), Int(9), Greater),
        (Int((1 << 53) + 1), Float(9_007_199_254_740_992.0), Equal),
        (decimal(1, 1), Float(0.1), Equal),
        (decimal(10_000_000_000_000_000_000_000_000_000_000_000_001, 38), Float(0.1), Equal),
        (Float(f64::NAN), Float(f64::INFINITY), Greater),
        (Float(f64::NAN), Float(-f64::NAN), Equal),
        (Float(-0.0), Float(0.0), Equal),
        (Float(f64::NAN), Int(5), Greater),
        (Date(1), instant("1970-01-02"), Equal),
        (
            Value::Timestamp { ticks: i64::MAX, unit: TimeUnit::Second },
            Value::Timestamp { ticks: i64::MAX, unit: TimeUnit::Nanosecond },
            Greater,
        ),
        (interval(1, 0, 0), interval(0, 30, 0), Equal),
        (interval(0, 1, 0), interval(0, 0, 86_400_000_000_000), Equal),
        (text("a"), text("B"), Greater),
        (Bool(false), Bool(true), Less),
    ];
    for (a, b, expected) in cases {
        assert_eq!(compare(&a, &b), Some(expected), "{a:?} {b:?}");
        assert_eq!(compare(&b, &a), Some(expected.reverse()), "{b:?} {a:?}");
    }
    assert_eq!(compare(&Null, &Int(1)), None);
    assert!(not_distinct(&Null, &Null) && !not_distinct(&Null, &Int(0)) && not_distinct(&Int(2), &decimal(20, 1)));
}

#[test]
fn lists_follow_three_valued_logic() {
    let list = [Int(1), Int(3), UInt(u64::MAX)];
    assert_eq!(in_list(&Int(3), &list, false), Some(true));
    assert_eq!(in_list(&decimal(30, 1), &list, true), Some(true));
    assert_eq!(in_list(&Int(2), &list, false), Some(false));
    assert_eq!(in_list(&Int(2), &list, true), None);
    assert_eq!(in_list(&Null, &list, false), None);
    assert_eq!(in_list(&Null, &[], false), Some(false));
    assert_eq!(in_list(&Int(2), &[], true), None);
}

#[test]
fn arithmetic_is_total() {
    use ArithmeticOp::{Add, Divide, Multiply, Remainder, Subtract};
    let wide = Type::Decimal { scale: 0 };
    let cases = [
        (Add, Int(i64::MAX), Int(1), Type::Int, Null),
        (Divide, Int(-7), Int(2), Type::Int, Int(-3)),
        (Divide, Int(i64::MIN), Int(-1), Type::Int, Null),
        (Remainder, Int(i64::MIN), Int(-1), Type::Int, Int(0)),
        (Remainder, Int(-7), Int(2), Type::Int, Int(-1)),
        (Divide, Int(1), Int(0), Type::Int, Null),
        (Add, UInt(u64::MAX), Int(1), wide, decimal(1 << 64, 0)),
        (Divide, UInt(7), Int(-2), wide, decimal(-3, 0)),
        (Remainder, UInt(7), UInt(0), wide, Null),
        (Add, decimal(150, 2), Int(1), D2, decimal(250, 2)),
        (Subtract, decimal(150, 2), decimal(5, 1), D2, decimal(100, 2)),
        (Multiply, decimal(15, 1), decimal(5, 1), D2, decimal(75, 2)),
        (Remainder, decimal(750, 2), Int(2), D2, decimal(150, 2)),
        (Divide, decimal(1, 0), decimal(3, 0), Type::Float, Float(1.0 / 3.0)),
        (Add, decimal(MOST, 0), decimal(MOST, 0), wide, Null),
        (Subtract, decimal(MOST, 0), decimal(-MOST, 0), wide, Null),
        (Multiply, decimal(MOST, 0), Int(10), wide, Null),
        (Divide, Float(1.0), Int(0), Type::Float, Null),
        (Remainder, Float(1.0), Float(-0.0), Type::Float, Null),
        (Multiply, Float(f64::MAX), Int(2), Type::Float, Null),
        (Multiply, Float(f64::INFINITY), Int(2), Type::Float, Float(f64::INFINITY)),
        (Add, Null, Int(2), Type::Int, Null),
        (Subtract, Date(5), Date(7), Type::Int, Int(-2)),
        (Add, Date(i32::MAX), Int(1), Type::Date, Null),
        (Add, Int(2), Date(1), Type::Date, Date(3)),
    ];
    for (op, a, b, ty, expected) in cases {
        assert_eq!(arithmetic(op, &a, &b, ty), expected, "{op:?} {a:?} {b:?}");
    }
    let ms = Type::Timestamp(TimeUnit::Millisecond);
    assert_eq!(arithmetic(Add, &instant("2024-01-31T10:00"), &interval(1, 0, 0), ms), instant("2024-02-29T10:00"));
    assert_eq!(arithmetic(Subtract, &instant("2024-03-31"), &interval(1, 1, 1), ms), instant("2024-02-27T23:59:59.999"));
    assert_eq!(arithmetic(Add, &interval(0, 1, 0), &Date(0), ms), instant("1970-01-02"));
    assert_eq!(arithmetic(Subtract, &instant("1970-01-01T00:00:01"), &Date(0), Type::Interval), interval(0, 0, 1_000_000_000));
    assert_eq!(arithmetic(Subtract, &instant("9000-01-01"), &instant("1000-01-01"), Type::Interval), Null);
    assert_eq!(negate(&Int(i64::MIN), Type::Int), Null);
    assert_eq!(negate(&UInt(1 << 63), Type::Decimal { scale: 0 }), decimal(-(1 << 63), 0));
}

#[test]
fn casts_convert_or_are_null() {
    let ns = Type::Timestamp(TimeUnit::Nanosecond);
    let cases = [
        (Float(2.9), Type::Int, Int(2)),
        (Float(-2.9), Type::Int, Int(-2)),
        (Float(9.3e18), Type::Int, Null),
        (Float(9.3e18), Type::UInt, UInt(9_300_000_000_000_000_000)),
        (Float(f64::NAN), Type::Int, Null),
        (Int(-1), Type::UInt, Null),
        (decimal(-299, 2), Type::Int, Int(-2)),
        (decimal(125, 3), D2, decimal(13, 2)),
        (decimal(-125, 3), D2, decimal(-13, 2)),
        (decimal(124, 3), D2, decimal(12, 2)),
        (Float(1.005), D2, decimal(101, 2)),
        (Float(1e300), D2, Null),
        (Float(1e-300), D2, decimal(0, 2)),
        (text(" 12 "), Type::Int, Int(12)),
        (text("12.0"), Type::Int, Null),
        (text("-.5"), D2, decimal(-50, 2)),
        (text("1.005"), D2, decimal(101, 2)),
        (text("1e3"), D2, decimal(100_000, 2)),
        (text("999e-5"), D2, decimal(1, 2)),
        (text("0e999999999999999999999"), D2, decimal(0, 2)),
        (text("1e999999999999999999999"), D2, Null),
        (text("340282366920938463463374607431768211459"), Type::Decimal { scale: 0 }, Null),
        (text("99999999999999999999999999999999999999.5"), Type::Decimal { scale: 0 }, Null),
        (text("."), D2, Null),
        (text("1e999"), Type::Float, Null),
        (text("inf"), Type::Float, Float(f64::INFINITY)),
        (text("TRUE"), Type::Bool, Bool(true)),
        (text("yes"), Type::Bool, Null),
        (Float(1.0), Type::Text, text("1.0")),
        (Float(1e16), Type::Text, text("1e16")),
        (decimal(-5, 2), Type::Text, text("-0.05")),
        (Bool(true), Type::Int, Int(1)),
        (Int(5), Type::Bool, Bool(true)),
        (instant("1969-12-31T23:00"), Type::Date, Date(-1)),
        (instant("1969-12-31T23:00:00.5"), Type::Text, text("1969-12-31T23:00:00.5Z")),
        (Date(1), ns, Value::Timestamp { ticks: 86_400_000_000_000, unit: TimeUnit::Nanosecond }),
        (Date(i32::MAX), ns, Null),
        (instant("1969-12-31T23:59:59.999"), Type::Timestamp(TimeUnit::Second), Value::Timestamp { ticks: -1, unit: TimeUnit::Second }),
        (interval(1, 2, 3_500_000_000), Type::Text, text("P1M2DT3.5S")),
    ];
    for (value, ty, expected) in cases {
        assert_eq!(cast(&value, ty), expected, "{value:?} as {ty}");
    }
}

#[test]
fn functions_follow_their_documentation() {
    use Function as F;
    let cases = [
        (F::Length, vec![text("é𝄞")], Type::Int, Int(2)),
        (F::Trim, vec![text("  a\t ")], Type::Text, text("a\t")),
        (F::TrimStart, vec![text("xyxa"), text("xy")], Type::Text, text("a")),
        (F::Substring, vec![text("hello"), Int(2)], Type::Text, text("ello")),
        (F::Substring, vec![text("hello"), Int(-1), Int(3)], Type::Text, text("h")),
        (F::Substring, vec![text("héllo"), Int(2), Int(i64::MAX)], Type::Text, text("éllo")),
        (F::Substring, vec![text("hello"), Int(2), Int(-1)], Type::Text, Null),
        (F::Substring, vec![text("hello"), Int(i64::MIN), Int(i64::MAX)], Type::Text, text("")),
        (F::Left, vec![text("hello"), Int(-2)], Type::Text, text("hel")),
        (F::Left, vec![text("hello"), Int(9)], Type::Text, text("hello")),
        (F::Right, vec![text("hello"), Int(2)], Type::Text, text("lo")),
        (F::Right, vec![text("hello"), Int(-2)], Type::Text, text("llo")),
        (F::Right, vec![text("hello"), Int(i64::MIN)], Type::Text, text("")),
        (F::Position, vec![text("l"), text("héllo")], Type::Int, Int(3)),
        (F::Position, vec![text(""), text("a")], Type::Int, Int(1)),
        (F::Position, vec![text("x"), text("a")], Type::Int, Int(0)),
        (F::Replace, vec![text("aaa"), text("a"), text("bc")], Type::Text, text("bcbcbc")),
        (F::Replace, vec![text("aaa"), text(""), text("b")], Type::Text, text("aaa")),
        (F::Concat, vec![text("a"), Null], Type::Text, Null),
        (F::Abs, vec![Int(i64::MIN)], Type::Int, Null),
        (F::Sign, vec![Float(f64::NAN)], Type::Int, Null),
        (F::Sign, vec![Float(-0.0)], Type::Int, Int(0)),
        (F::Round, vec![Float(-2.5)], Type::Float, Float(-3.0)),
        (F::Round, vec![Float(2.345), Int(1)], Type::Float, Float(2.3)),
        (F::Round, vec![Float(f64::INFINITY), Int(-400)], Type::Float, Float(f64::INFINITY)),
        (F::Round, vec![Int(-15), Int(-1)], Type::Int, Int(-20)),
        (F::Round, vec![Int(i64::MAX), Int(-1)], Type::Int, Null),
        (F::Round, vec![Int(5), Int(-40)], Type::Int, Int(0)),
        (F::Round, vec![decimal(125, 2), Int(1)], D2, decimal(130, 2)),
        (F::Floor, vec![decimal(-150, 2)], Type::Decimal { scale: 0 }, decimal(-2, 0)),
        (F::Ceil, vec![decimal(150, 2)], Type::Decimal { scale: 0 }, decimal(2, 0)),
        (F::Truncate, vec![Float(-1.5)], Type::Float, Float(-1.0)),
        (F::Sqrt, vec![Int(-1)], Type::Float, Null),
        (F::Ln, vec![Int(0)], Type::Float, Null),
        (F::Power, vec![Int(2), decimal(5, 1)], Type::Float, Float(2_f64.sqrt())),
        (F::Greatest, vec![Null, Int(1), Int(3)], Type::Int, Int(3)),
        (F::Least, vec![Float(f64::NAN), Float(1.0)], Type::Float, Float(1.0)),
        (F::Coalesce, vec![Null, Null], Type::Int, Null),
    ];
    for (function, args, ty, expected) in cases {
        assert_eq!(call(function, &args, ty), expected, "{function:?} {args:?}");
    }
    let long = text(&"a".repeat(call::TEXT_LIMIT));
    assert_eq!(call(F::Concat, &[long.clone(), text("a")], Type::Text), Null);
    assert_eq!(call(F::Replace, &[long, text("a"), text("bb")], Type::Text), Null);
}

#[test]
fn parts_of_instants() {
    let parts = |at: &str, part| extract(part, &instant(at));
    assert_eq!(parts("1969-12-31T23:59:58.5", DatePart::Epoch), Int(-2));
    assert_eq!(parts("1969-12-31T23:59:58.5", DatePart::Second), Int(58));
    assert_eq!(parts("2026-11-22", DatePart::DayOfWeek), Int(0));
    assert_eq!(parts("2026-11-22", DatePart::IsoDayOfWeek), Int(7));
    assert_eq!(parts("2021-01-01", DatePart::Week), Int(53));
    assert_eq!(parts("2024-12-31", DatePart::DayOfYear), Int(366));
    assert_eq!(parts("2024-08-31", DatePart::Quarter), Int(3));
    assert_eq!(extract(DatePart::Year, &Date(-1)), Int(1969));
}

//! Values and arrays through the codecs.

use super::canonical::{canonical_column, convertible, type_of};
use super::columnar::{ColumnarDecoder, arrow_stream_schema};
use super::columns::{Cell, ColumnBuilder};
use super::csv::CsvDecoder;
use super::json::JsonDecoder;
use super::text::{format_date, format_decimal, format_timestamp, parse_date, parse_exact, parse_timestamp};
use super::write::BatchWriter;
use super::*;
use crate::event::batch::canonical_type;
use crate::event::{Field, TimeUnit};
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field as ArrowField, Int32Type, Schema as ArrowSchema, TimeUnit as ArrowUnit, i256};
use arrow::record_batch::RecordBatch;
use std::io::Cursor;

const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

fn request(fields: &[(&str, Type)], batch_rows: usize) -> Request {
    let fields: Vec<Field> = fields.iter().map(|(name, ty)| Field { name: (*name).to_owned(), ty: *ty }).collect();
    let needed = (0..fields.len()).map(FieldId::new).collect();
    Request { schema: Arc::new(Schema::new(fields).expect("distinct names")), needed, batch_rows }
}

fn all(decoder: &mut dyn Decoder) -> Result<Vec<Decoded>, String> {
    let mut pieces = Vec::new();
    while let Some(piece) = decoder.decode()? {
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Values of a canonical column as text, NULL as `-`.
fn shown(column: &ArrayRef) -> Vec<String> {
    let texts = cast(column, &DataType::Utf8).expect("any canonical column has text");
    texts.as_string::<i32>().iter().map(|text| text.unwrap_or("-").to_owned()).collect()
}

fn json(text: &str, fields: &[(&str, Type)]) -> Decoded {
    let mut pieces = all(&mut JsonDecoder::new(text.as_bytes(), request(fields, 1000))).expect("readable");
    assert_eq!(pieces.len(), 1);
    pieces.remove(0)
}

fn csv_of(text: &str, fields: &[(&str, Type)]) -> Decoded {
    let mut decoder = CsvDecoder::new(text.as_bytes(), request(fields, 1000)).expect("a header");
    let mut pieces = all(&mut decoder).expect("readable");
    assert_eq!(pieces.len(), 1);
    pieces.remove(0)
}

fn column(decoded: &Decoded, position: usize) -> Vec<String> {
    shown(decoded.columns[position].as_ref().expect("present"))
}

#[test]
fn exact_numbers() {
    let number = |text: &str| parse_exact(text).map(|exact| (exact.units, exact.scale));
    assert_eq!(number("12.50"), Some((125, 1)));
    assert_eq!(number("-0.001"), Some((-1, 3)));
    assert_eq!(number("1e3"), Some((1000, 0)));
    assert_eq!(number("1.5E+1"), Some((15, 0)));
    assert_eq!(number("15e-1"), Some((15, 1)));
    assert_eq!(number("0e99999999999"), Some((0, 0)));
    assert_eq!(number("-0"), Some((0, 0)));
    assert_eq!(number("1e39"), None);
    assert_eq!(number("1e99999999999999999999"), None);
    assert_eq!(number("1e-9223372036854775808"), None);
    assert_eq!(number(&format!("{}", i128::MAX)), Some((i128::MAX, 0)));
    for text in ["", ".", "-", "e1", "1e", "1.2.3", "0x1", "1 ", "١", "NaN", "--1", "1e1.5"] {
        assert_eq!(number(text), None, "{text}");
    }
    assert_eq!(format_decimal("-5", 3), "-0.005");
    assert_eq!(format_decimal("12345", 2), "123.45");
    assert_eq!(format_decimal("12", 0), "12");
    assert_eq!(format_decimal("12", -2), "1200");
}

#[test]
fn instants_and_dates() {
    assert_eq!(parse_timestamp("1970-01-01T00:00:00Z", TimeUnit::Second), Some(0));
    assert_eq!(parse_timestamp("2019-01-01 00:00:18", TimeUnit::Millisecond), Some(1_546_300_818_000));
    assert_eq!(parse_timestamp("2019-01-01T01:00:18+01:00", TimeUnit::Millisecond), Some(1_546_300_818_000));
    assert_eq!(parse_timestamp("2018-12-31T18:30:18 -0530", TimeUnit::Second), Some(1_546_300_818));
    assert_eq!(parse_timestamp("2019-01-01", TimeUnit::Second), Some(1_546_300_800));
    assert_eq!(parse_timestamp("2019-01-01T00:00", TimeUnit::Second), Some(1_546_300_800));
    assert_eq!(parse_timestamp("1969-12-31T23:59:59.5Z", TimeUnit::Millisecond), Some(-500));
    assert_eq!(parse_timestamp("2019-01-01T00:00:00.1234567890Z", TimeUnit::Nanosecond), Some(1_546_300_800_123_456_789));
    assert_eq!(parse_timestamp("2019-01-01T00:00:00.0001Z", TimeUnit::Millisecond), None, "too coarse a unit");
    assert_eq!(parse_timestamp("9999-01-01T00:00:00Z", TimeUnit::Nanosecond), None, "out of range");
    for text in [
        "",
        "2019",
        "2019-13-01",
        "2019-02-29",
        "2019-1-1",
        "2019-01-01T24:00:00",
        "2019-01-01T00:60",
        "2019-01-01x",
        "2019-01-01T00:00:00+",
        "2019-01-01T00:00:00.",
        "2019-01-01T",
        "éééé-01-01",
    ] {
        assert_eq!(parse_timestamp(text, TimeUnit::Second), None, "{text}");
    }
    assert_eq!(parse_date("2000-02-29"), Some(11_016));
    assert_eq!(parse_date("1900-02-29"), None);
    for days in (-1_000_000..1_000_000).step_by(997) {
        let text = format_date(i64::from(days));
        assert_eq!(parse_date(&text), Some(days), "{text}");
    }
    for unit in UNITS {
        for ticks in [0, 1, -1, 999, -86_401, 1_546_300_818_123, i64::from(i32::MIN)] {
            let text = format_timestamp(ticks, unit);
            assert_eq!(parse_timestamp(&text, unit), Some(ticks), "{text}");
        }
    }
}

#[test]
fn types_of_columns() {
    assert_eq!(type_of(&DataType::UInt32), Some(Type::Int));
    assert_eq!(type_of(&DataType::UInt64), Some(Type::UInt));
    assert_eq!(type_of(&DataType::Float16), Some(Type::Float));
    assert_eq!(type_of(&DataType::Decimal256(70, 38)), Some(Type::Decimal { scale: 38 }));
    assert_eq!(type_of(&DataType::Decimal256(70, 39)), None);
    assert_eq!(type_of(&DataType::Decimal32(5, -1)), None);
    assert_eq!(type_of(&DataType::Timestamp(ArrowUnit::Second, Some("Europe/Berlin".into()))), Some(Type::Timestamp(TimeUnit::Second)));
    assert_eq!(type_of(&DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::LargeUtf8))), Some(Type::Text));
    assert_eq!(type_of(&DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Int16))), Some(Type::Int));
    assert_eq!(type_of(&DataType::Null), Some(Type::Text));
    assert_eq!(type_of(&DataType::Binary), None);
    assert!(!convertible(&DataType::Boolean, Type::Date));
    assert!(!convertible(&DataType::Binary, Type::Text));
    assert!(convertible(&DataType::Decimal32(5, -1), Type::Int));
}

/// The canonical column of `array` with NULL where a value did not fit, and the rows that did not.
fn converted(array: ArrayRef, ty: Type) -> (Vec<String>, Vec<usize>) {
    let mut misfits = Vec::new();
    let column = canonical_column(&array, ty, &mut misfits).expect("convertible");
    assert_eq!(column.data_type(), &canonical_type(ty));
    assert_eq!(column.len(), array.len());
    (shown(&column), misfits.into_iter().map(|(row, _)| row).collect())
}

#[test]
fn integers_of_every_width() {
    let small: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(100), None, Some(7)]));
    for width in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
    ] {
        let array = cast(&small, &width).expect("they fit");
        for ty in [Type::Int, Type::UInt, Type::Decimal { scale: 0 }, Type::Text] {
            assert_eq!(converted(Arc::clone(&array), ty), (["0", "100", "-", "7"].map(String::from).to_vec(), vec![]), "{width} {ty}");
        }
        assert_eq!(converted(Arc::clone(&array), Type::Float).0, ["0.0", "100.0", "-", "7.0"], "{width}");
        assert_eq!(converted(array, Type::Bool), (["false", "-", "-", "-"].map(String::from).to_vec(), vec![1, 3]), "{width}");
    }
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1 << 63, i64::MAX as u64]));
    assert_eq!(converted(Arc::clone(&large), Type::UInt).0, ["18446744073709551615", "9223372036854775808", "9223372036854775807"]);
    assert_eq!(converted(Arc::clone(&large), Type::Int).1, [0, 1]);
    // 2^64 - 1 and 2^63 - 1 are no doubles, 2^63 is one.
    assert_eq!(converted(large, Type::Float).1, [0, 2]);
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![-1, i64::MIN, (1 << 53) + 1, 1 << 53]));
    assert_eq!(converted(Arc::clone(&negative), Type::UInt).1, [0, 1]);
    assert_eq!(converted(negative, Type::Float).1, [2]);
}

#[test]
fn floats_of_every_width() {
    let wide: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(1.0), Some(0.5), Some(f64::NAN), Some(-0.0), None, Some(f64::INFINITY), Some(1e300)]));
    assert_eq!(converted(Arc::clone(&wide), Type::Int), (["1", "-", "-", "0", "-", "-", "-"].map(String::from).to_vec(), vec![1, 2, 5, 6]));
    assert_eq!(converted(Arc::clone(&wide), Type::Decimal { scale: 1 }).0[..2], ["1.0", "0.5"]);
    let mut misfits = Vec::new();
    let same = canonical_column(&wide, Type::Float, &mut misfits).expect("the same");
    assert_eq!(same.as_primitive::<arrow::datatypes::Float64Type>().value(3).to_bits(), (-0.0_f64).to_bits());
    let single: ArrayRef = Arc::new(Float32Array::from(vec![0.1, 16_777_216.0]));
    assert_eq!(converted(Arc::clone(&single), Type::Decimal { scale: 1 }).0, ["0.1", "16777216.0"]);
    assert_eq!(converted(single, Type::Float).0[0], f64::from(0.1_f32).to_string());
    let half = cast(&(Arc::new(Float64Array::from(vec![0.5, 2.0])) as ArrayRef), &DataType::Float16).expect("halves");
    assert_eq!(converted(half, Type::Float).0, ["0.5", "2.0"]);
}

#[test]
fn decimals_of_every_width_and_scale() {
    let base: ArrayRef =
        Arc::new(Decimal128Array::from(vec![Some(12_345), Some(-100), None, Some(0)]).with_precision_and_scale(9, 2).expect("valid"));
    for width in [DataType::Decimal32(9, 2), DataType::Decimal64(18, 2), DataType::Decimal128(38, 2), DataType::Decimal256(76, 2)] {
        let array = cast(&base, &width).expect("they fit");
        assert_eq!(converted(Arc::clone(&array), Type::Decimal { scale: 2 }).0, ["123.45", "-1.00", "-", "0.00"], "{width}");
        assert_eq!(converted(Arc::clone(&array), Type::Decimal { scale: 4 }).0, ["123.4500", "-1.0000", "-", "0.0000"], "{width}");
        assert_eq!(
            converted(Arc::clone(&array), Type::Decimal { scale: 1 }),
            (["-", "-1.0", "-", "0.0"].map(String::from).to_vec(), vec![0]),
            "{width}"
        );
        assert_eq!(converted(Arc::clone(&array), Type::Int), (["-", "-1", "-", "0"].map(String::from).to_vec(), vec![0]), "{width}");
        assert_eq!(converted(array, Type::Float).0, ["123.45", "-1.0", "-", "0.0"], "{width}");
    }
    let huge = i256::from_i128(i128::MAX).wrapping_mul(i256::from_i128(1000));
    let wide: ArrayRef = Arc::new(Decimal256Array::from(vec![huge, i256::from_i128(5)]).with_precision_and_scale(76, 0).expect("valid"));
    assert_eq!(converted(Arc::clone(&wide), Type::Decimal { scale: 0 }), (vec!["-".to_owned(), "5".to_owned()], vec![0]));
    assert_eq!(converted(wide, Type::Decimal { scale: 38 }).1, [0, 1], "5 with 38 digits after the point has 39 digits");
    let hundreds: ArrayRef = Arc::new(Decimal128Array::from(vec![7]).with_precision_and_scale(5, -2).expect("valid"));
    assert_eq!(converted(hundreds, Type::Int).0, ["700"]);
}

#[test]
fn timestamps_of_every_unit_and_zone() {
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(1_546_300_818), Some(-1), None]));
    for unit in [ArrowUnit::Second, ArrowUnit::Millisecond, ArrowUnit::Microsecond, ArrowUnit::Nanosecond] {
        for zone in [None, Some("UTC".into()), Some("+05:30".into()), Some("Europe/Berlin".into())] {
            let ticks = cast(&cast(&seconds, &DataType::Timestamp(unit, None)).expect("units"), &DataType::Int64).expect("ticks");
            let data = ticks.to_data().into_builder().data_type(DataType::Timestamp(unit, zone)).build().expect("the same layout");
            for wanted in UNITS {
                let (values, misfits) = converted(make_array(data.clone()), Type::Timestamp(wanted));
                assert_eq!(values, ["2019-01-01T00:00:18", "1969-12-31T23:59:59", "-"]);
                assert!(misfits.is_empty());
            }
        }
    }
    let fine: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000, 1_001, 86_400_000_000]));
    assert_eq!(converted(Arc::clone(&fine), Type::Timestamp(TimeUnit::Millisecond)).1, [1]);
    assert_eq!(converted(Arc::clone(&fine), Type::Date), (["-", "-", "1970-01-02"].map(String::from).to_vec(), vec![0, 1]));
    assert_eq!(converted(fine, Type::Text).0[1], "1970-01-01T00:00:00.001001Z");
    let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    assert_eq!(converted(far, Type::Timestamp(TimeUnit::Nanosecond)).1, [0]);
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None]));
    assert_eq!(converted(Arc::clone(&days), Type::Timestamp(TimeUnit::Second)).0, ["1970-01-02T00:00:00", "-"]);
    let milliseconds: ArrayRef = Arc::new(Date64Array::from(vec![86_400_000, 1]));
    assert_eq!(converted(milliseconds, Type::Date), (vec!["1970-01-02".to_owned(), "-".to_owned()], vec![1]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["2019-01-01T00:00:18Z", "yesterday"]));
    assert_eq!(converted(texts, Type::Timestamp(TimeUnit::Millisecond)).1, [1]);
}

#[test]
fn texts_of_every_layout() {
    let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some(""), None, Some("a"), Some("longer than a view holds inline")]));
    let expected = ["a", "", "-", "a", "longer than a view holds inline"];
    let dictionary = |keys, values| DataType::Dictionary(Box::new(keys), Box::new(values));
    for layout in [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary(DataType::Int8, DataType::Utf8),
        dictionary(DataType::UInt16, DataType::LargeUtf8),
        dictionary(DataType::Int32, DataType::Utf8),
        dictionary(DataType::UInt64, DataType::Utf8View),
    ] {
        let array = cast(&plain, &layout).expect("any layout holds them");
        assert_eq!(converted(array, Type::Text), (expected.map(String::from).to_vec(), vec![]), "{layout}");
    }
    let numbers =
        cast(&(Arc::new(Int16Array::from(vec![5, 5, 6])) as ArrayRef), &dictionary(DataType::Int8, DataType::Int16)).expect("encodes");
    assert_eq!(converted(numbers, Type::Int).0, ["5", "5", "6"]);
    assert_eq!(converted(new_null_array(&DataType::Null, 2), Type::Text).0, ["-", "-"]);
    assert_eq!(converted(Arc::new(BooleanArray::from(vec![true])), Type::Text).0, ["true"]);
}

#[test]
fn dictionaries_lose_null_values_and_spare_ones() {
    let values = StringArray::from(vec![Some("a"), None, Some("b")]);
    let array: ArrayRef = Arc::new(
        DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![Some(0), Some(1), None, Some(2)]), Arc::new(values)).expect("valid"),
    );
    let mut misfits = Vec::new();
    let column = canonical_column(&array, Type::Text, &mut misfits).expect("text");
    assert_eq!(shown(&column), ["a", "-", "-", "b"]);
    assert_eq!(column.as_dictionary::<Int32Type>().values().null_count(), 0);

    let values = StringArray::from_iter_values((0..100_000).map(|number| number.to_string()));
    let array: ArrayRef =
        Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![99_999, 5, 99_999]), Arc::new(values)).expect("valid"));
    let column = canonical_column(&array, Type::Text, &mut misfits).expect("text");
    assert_eq!(shown(&column), ["99999", "5", "99999"]);
    assert_eq!(column.as_dictionary::<Int32Type>().values().len(), 2);

    let empty: ArrayRef = Arc::new(
        DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![None::<i32>]), Arc::new(StringArray::from(Vec::<&str>::new())))
            .expect("valid"),
    );
    assert_eq!(shown(&canonical_column(&empty, Type::Text, &mut misfits).expect("text")), ["-"]);
}

#[test]
fn builders_refuse_what_does_not_fit() {
    let mut column = ColumnBuilder::new(Type::Int, 4);
    column.push(&Cell::Int(1)).expect("fits");
    let reason = column.push(&Cell::Text("abc")).expect_err("no number");
    assert_eq!(reason, "'abc' does not fit int64");
    assert_eq!(column.rows(), 1, "nothing was appended");
    column.push(&Cell::Null).expect("NULL fits");
    column.push(&Cell::Number("1e2")).expect("whole");
    column.truncate(2);
    column.push(&Cell::Number("-9223372036854775808")).expect("fits");
    assert_eq!(shown(&column.finish()), ["1", "-", "-9223372036854775808"]);
}

#[test]
fn json_values_of_every_type() {
    let fields = [
        ("b", Type::Bool),
        ("i", Type::Int),
        ("u", Type::UInt),
        ("f", Type::Float),
        ("d", Type::Decimal { scale: 3 }),
        ("t", Type::Text),
        ("s", Type::Timestamp(TimeUnit::Millisecond)),
        ("y", Type::Date),
    ];
    let text = r#"{"b":true,"i":-9223372036854775808,"u":18446744073709551615,"f":0.1,"d":99999999999999999999999999999999999.999,"t":"a\"\u00e9","s":"2019-01-01T00:00:18Z","y":"2019-01-01"}
{"y":3,"s":1546300818000,"t":{"x": [1, "z"]},"d":"12.5","f":1e3,"u":0,"i":1.0,"b":0,"unknown":{"deep":[[]]}}

{"b":null,"t":"","t":"twice"}
{}
"#;
    let decoded = json(text, &fields);
    assert_eq!((decoded.input_rows, decoded.rows), (4, 4), "{:?}", decoded.bad);
    assert_eq!(column(&decoded, 0), ["true", "false", "-", "-"]);
    assert_eq!(column(&decoded, 1), ["-9223372036854775808", "1", "-", "-"]);
    assert_eq!(column(&decoded, 2), ["18446744073709551615", "0", "-", "-"]);
    assert_eq!(column(&decoded, 3), ["0.1", "1000.0", "-", "-"]);
    assert_eq!(column(&decoded, 4), ["99999999999999999999999999999999999.999", "12.500", "-", "-"]);
    assert_eq!(column(&decoded, 5), ["a\"é", r#"{"x": [1, "z"]}"#, "twice", "-"]);
    assert_eq!(column(&decoded, 6), ["2019-01-01T00:00:18", "2019-01-01T00:00:18", "-", "-"]);
    assert_eq!(column(&decoded, 7), ["2019-01-01", "1970-01-04", "-", "-"]);
}

#[test]
fn json_rows_that_are_bad() {
    let fields = [
        ("i", Type::Int),
        ("f", Type::Float),
        ("t", Type::Text),
        ("s", Type::Timestamp(TimeUnit::Second)),
        ("d", Type::Decimal { scale: 1 }),
        ("u", Type::UInt),
        ("b", Type::Bool),
    ];
    let cases: &[(&[u8], &str)] = &[
        (b"{", "EOF"),
        (b"[1]", "expected a JSON object"),
        (b"3", "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b"{} {}", "trailing"),
        (b"{\"t\":\"\xff\"}", "not UTF-8 at byte 6"),
        (b"{\"i\":\"12\"}", "i: the string '12' does not fit int64"),
        (b"{\"i\":1.5}", "i: 1.5 does not fit int64"),
        (b"{\"i\":9223372036854775808}", "does not fit int64"),
        (b"{\"i\":true}", "i: true does not fit int64"),
        (b"{\"i\":[1]}", "i: an array does not fit int64"),
        (b"{\"i\":{}}", "i: an object does not fit int64"),
        (b"{\"i\":01}", "invalid number"),
        (b"{\"f\":\"1.5\"}", "f: the string '1.5' does not fit float64"),
        (b"{\"f\":1e999}", "does not fit float64"),
        (b"{\"f\":NaN}", "expected"),
        (b"{\"s\":\"soon\"}", "s: 'soon' does not fit timestamp(s)"),
        (b"{\"s\":\"2019-01-01T00:00:00.5Z\"}", "does not fit timestamp(s)"),
        (b"{\"d\":1.25}", "d: 1.25 does not fit decimal(38,1)"),
        (b"{\"u\":-1}", "u: -1 does not fit uint64"),
        (b"{\"b\":2}", "b: 2 does not fit boolean"),
        (b"{\"b\":\"true\"}", "does not fit boolean"),
        (b"{\"t\":\"\\ud800\"}", "escape"),
        (b"{\"t\":\"a\x01\"}", "control character"),
    ];
    for (line, reason) in cases {
        let mut text = b"{\"i\":1,\"t\":\"x\"}\n".to_vec();
        text.extend_from_slice(line);
        text.extend_from_slice(b"\r\n{\"i\":2}");
        let mut pieces = all(&mut JsonDecoder::new(&text[..], request(&fields, 10))).expect("readable");
        let decoded = pieces.remove(0);
        assert_eq!((decoded.input_rows, decoded.rows), (3, 2), "{reason}: {:?}", decoded.bad);
        assert_eq!(column(&decoded, 0), ["1", "2"]);
        assert_eq!(decoded.bad[0].row, 1);
        assert!(
            decoded.bad[0].reason.starts_with("line 2: ") && decoded.bad[0].reason.contains(reason),
            "{reason}: {}",
            decoded.bad[0].reason
        );
        assert!(decoded.bad[0].raw.is_some());
    }
    let nested = format!("{{\"t\":{}1{}}}\n{{\"t\":1}}\n", "[".repeat(200_000), "]".repeat(200_000));
    let decoded = json(&nested, &fields);
    assert_eq!(decoded.input_rows, 2);
    assert_eq!(decoded.rows + decoded.bad.len(), 2);
}

#[test]
fn json_floats_beyond_json() {
    let decoded = json("{\"f\":\"NaN\"}\n{\"f\":\"-Infinity\"}\n{\"f\":-0.0}\n", &[("f", Type::Float)]);
    let values = decoded.columns[0].as_ref().expect("present").as_primitive::<arrow::datatypes::Float64Type>().clone();
    assert!(values.value(0).is_nan());
    assert_eq!(values.value(1), f64::NEG_INFINITY);
    assert_eq!(values.value(2).to_bits(), (-0.0_f64).to_bits());
}

#[test]
fn csv_values_and_quotes() {
    let fields = [("a", Type::Text), ("n", Type::Int), ("f", Type::Float), ("b", Type::Bool)];
    let text = "\u{feff}a, n ,f,b,unknown\r\n\"x, \"\"y\"\"\r\nz\",1,0.5,TRUE,?\r\n,,,,\n\"\",\"\", NaN ,0,\n\nlast,-3,1e3,false,\"\"";
    let decoded = csv_of(text, &fields);
    assert_eq!((decoded.input_rows, decoded.rows), (4, 4), "{:?}", decoded.bad);
    assert_eq!(column(&decoded, 0), ["x, \"y\"\r\nz", "-", "", "last"]);
    assert_eq!(column(&decoded, 1), ["1", "-", "-", "-3"]);
    assert_eq!(column(&decoded, 2), ["0.5", "-", "NaN", "1000.0"]);
    assert_eq!(column(&decoded, 3), ["true", "-", "false", "false"]);
    let decoded = csv_of("a,n\r\n\"q\"\r\n\"p\",\"4\"\r\n", &fields[..2]);
    assert_eq!(column(&decoded, 0), ["p"]);
    assert_eq!(decoded.bad[0].reason, "line 2: 1 fields where the header has 2");
}

#[test]
fn csv_rows_that_are_bad() {
    let fields = [("a", Type::Text), ("n", Type::Int)];
    let bytes = b"a,n\nx,1\ny,one\nz\nq\xff,2\nw,3\n\"never closed,4\nv,5\n";
    let mut decoder = CsvDecoder::new(&bytes[..], request(&fields, 100)).expect("a header");
    let decoded = all(&mut decoder).expect("readable").remove(0);
    assert_eq!(column(&decoded, 0), ["x", "w"]);
    let reasons: Vec<_> = decoded.bad.iter().map(|bad| (bad.row, bad.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "line 3: n: 'one' does not fit int64"),
            (2, "line 4: 1 fields where the header has 2"),
            (3, "line 5: not UTF-8"),
            (5, "line 7: a quote is not closed")
        ]
    );
    assert!(CsvDecoder::new(&b"a,\xff\n"[..], request(&fields, 100)).is_err());
    assert!(all(&mut CsvDecoder::new(&b""[..], request(&fields, 100)).expect("no header is no columns")).expect("readable").is_empty());
}

fn sample_batch() -> RecordBatch {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("r1"), Some("a \"q\"")]);
    lists.append_null();
    lists.append_value(std::iter::empty::<Option<&str>>());
    let list = lists.finish();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)]))),
        ("f", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(1e300)]))),
        (
            "d",
            Arc::new(
                Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), None, Some(-5)]).with_precision_and_scale(38, 3).expect("valid"),
            ),
        ),
        (
            "t",
            Arc::new(
                ["x,\"y\"\n", "", "ÿ"]
                    .into_iter()
                    .enumerate()
                    .map(|(row, text)| (row != 1).then_some(text))
                    .collect::<DictionaryArray<Int32Type>>(),
            ),
        ),
        ("s", Arc::new(TimestampMillisecondArray::from(vec![Some(1_546_300_818_123), None, Some(-1)]))),
        ("y", Arc::new(Date32Array::from(vec![Some(17_897), None, Some(-1)]))),
        ("l", Arc::new(list)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("equal lengths")
}

const SAMPLE_FIELDS: [(&str, Type); 8] = [
    ("b", Type::Bool),
    ("i", Type::Int),
    ("u", Type::UInt),
    ("f", Type::Float),
    ("d", Type::Decimal { scale: 3 }),
    ("t", Type::Text),
    ("s", Type::Timestamp(TimeUnit::Millisecond)),
    ("y", Type::Date),
];

fn written(format: Format) -> Vec<u8> {
    let batch = sample_batch();
    let mut writer = BatchWriter::new(Vec::new(), &batch.schema(), format).expect("a writer");
    writer.write(&batch).expect("written");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished")
}

fn decoder_of(format: Format, bytes: Vec<u8>, request: Request) -> Result<Box<dyn Decoder>, String> {
    Ok(match format {
        Format::Parquet => Box::new(ColumnarDecoder::parquet(bytes::Bytes::from(bytes), request)?),
        Format::ArrowFile => Box::new(ColumnarDecoder::arrow_file(Cursor::new(bytes), request)?),
        Format::ArrowStream => Box::new(ColumnarDecoder::arrow_stream(Cursor::new(bytes), request)?),
        Format::Json => Box::new(JsonDecoder::new(Cursor::new(bytes), request)),
        Format::Csv => Box::new(CsvDecoder::new(Cursor::new(bytes), request)?),
    })
}

const FORMATS: [Format; 5] = [Format::Parquet, Format::ArrowFile, Format::ArrowStream, Format::Json, Format::Csv];

#[test]
fn every_type_survives_every_format() {
    let batch = sample_batch();
    for format in FORMATS {
        for batch_rows in [1, 2, 3, 4, 5, 6, 7] {
            let request = request(&SAMPLE_FIELDS, batch_rows);
            let mut decoder = decoder_of(format, written(format), request).expect("readable");
            let pieces = all(decoder.as_mut()).expect("readable");
            assert_eq!(pieces.iter().map(|piece| piece.input_rows).sum::<usize>(), 6, "{format:?}");
            assert!(pieces.iter().all(|piece| piece.input_rows <= batch_rows && piece.rows == piece.input_rows), "{format:?}");
            for (position, (name, _)) in SAMPLE_FIELDS.iter().enumerate() {
                let read: Vec<String> = pieces.iter().flat_map(|piece| column(piece, position)).collect();
                let expected = shown(batch.column_by_name(name).expect("there"));
                assert_eq!(read, [expected.clone(), expected].concat(), "{format:?} {name}");
            }
            assert!(decoder.missing().is_empty());
            assert!(decoder.bytes_read() > 0);
        }
    }
}

#[test]
fn results_as_text() {
    let json = String::from_utf8(written(Format::Json)).expect("text");
    let first = json.lines().next().expect("a line");
    assert!(first.contains("\"d\":99999999999999999999999999999999999.999,"), "{first}");
    assert!(first.contains("\"l\":[\"r1\",\"a \\\"q\\\"\"]"), "{first}");
    let csv = String::from_utf8(written(Format::Csv)).expect("text");
    assert!(csv.starts_with("b,i,u,f,d,t,s,y,l\ntrue,-9223372036854775808,"), "{csv}");
    assert!(csv.contains("\"[\"\"r1\"\",\"\"a \\\"\"q\\\"\"\"\"]\""), "{csv}");
    assert!(csv.contains("\n,,,,,,,,\n"), "{csv}");
}

#[test]
fn only_what_is_needed_is_read() {
    for format in FORMATS {
        let mut request = request(&[("i", Type::Int), ("absent", Type::Text), ("t", Type::Text), ("f", Type::Date)], 10);
        request.needed = [FieldId(1), FieldId(2)].into();
        let mut decoder = decoder_of(format, written(format), request).expect("readable");
        let pieces = all(decoder.as_mut()).expect("readable");
        assert!(pieces.iter().all(|piece| piece.bad.is_empty()), "what is not needed is not judged");
        let present: Vec<bool> = pieces[0].columns.iter().map(Option::is_some).collect();
        assert_eq!(present, [false, false, true, false], "{format:?}");
        assert_eq!(decoder.missing(), [FieldId(1)], "{format:?}");
    }
    for format in FORMATS {
        let mut request = request(&SAMPLE_FIELDS, 10);
        request.needed = [].into();
        let mut decoder = decoder_of(format, written(format), request).expect("readable");
        assert_eq!(all(decoder.as_mut()).expect("readable").iter().map(|piece| piece.rows).sum::<usize>(), 6, "{format:?}");
    }
}

#[test]
fn values_that_do_not_fit_make_bad_rows() {
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(Float64Array::from(vec![Some(1.0), Some(1.5), None, Some(4.0)])) as ArrayRef, true),
        ("u", Arc::new(Int32Array::from(vec![1, -2, 3, -4])) as ArrayRef, true),
        ("t", Arc::new(StringArray::from(vec!["a", "b", "c", "d"])) as ArrayRef, true),
        ("b", Arc::new(BooleanArray::from(vec![true; 4])) as ArrayRef, true),
    ])
    .expect("equal lengths");
    for format in [Format::Parquet, Format::ArrowFile, Format::ArrowStream] {
        let mut writer = BatchWriter::new(Vec::new(), &batch.schema(), format).expect("a writer");
        writer.write(&batch).expect("written");
        let bytes = writer.finish().expect("finished");
        let request = request(&[("n", Type::Int), ("u", Type::UInt), ("t", Type::Text)], 10);
        let decoded = all(decoder_of(format, bytes.clone(), request).expect("readable").as_mut()).expect("readable").remove(0);
        assert_eq!((decoded.input_rows, decoded.rows), (4, 2));
        assert_eq!(column(&decoded, 2), ["a", "c"]);
        assert_eq!(decoded.bad.len(), 2);
        assert_eq!(decoded.bad[0].reason, "n: 1.5 does not fit int64; u: -2 does not fit uint64");
        let raw = decoded.bad[0].raw.as_deref().expect("it can be shown");
        assert!(raw.starts_with(r#"{"n":1.5,"u":-2,"t":"b""#), "{raw}");
        let never = self::request(&[("b", Type::Date)], 10);
        let fault = decoder_of(format, bytes, never).and_then(|mut decoder| all(decoder.as_mut())).expect_err("no boolean is a date");
        assert!(fault.contains("column `b`"), "{fault}");
    }
}

#[test]
fn parquet_keeps_its_dictionaries() {
    let texts: ArrayRef = Arc::new(StringArray::from_iter((0..5000).map(|row| (row % 7 != 0).then(|| format!("text {}", row % 10)))));
    for layout in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, canonical_type(Type::Text)] {
        let array = cast(&texts, &layout).expect("any layout holds them");
        let batch = RecordBatch::try_from_iter_with_nullable([("t", array, true)]).expect("one column");
        let mut writer = BatchWriter::new(Vec::new(), &batch.schema(), Format::Parquet).expect("a writer");
        writer.write(&batch).expect("written");
        let bytes = bytes::Bytes::from(writer.finish().expect("finished"));
        let mut decoder = ColumnarDecoder::parquet(bytes, request(&[("t", Type::Text)], 2000)).expect("readable");
        let pieces = all(&mut decoder).expect("readable");
        assert_eq!(pieces.iter().flat_map(|piece| column(piece, 0)).collect::<Vec<_>>(), shown(&texts), "{layout}");
        let values = |piece: &Decoded| piece.columns[0].as_ref().map(|column| column.as_dictionary::<Int32Type>().values().len());
        assert!(pieces.iter().all(|piece| values(piece) == Some(10)), "{layout}");
    }
}

#[test]
fn batches_span_row_groups_of_different_dictionaries() {
    let schema = Arc::new(ArrowSchema::new(vec![ArrowField::new("t", DataType::Utf8, true)]));
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None).expect("a writer");
    let mut expected = Vec::new();
    for group in 0..5 {
        let texts: Vec<Option<String>> = (0..100).map(|row| (row % 9 != 0).then(|| format!("{}", group * 10 + row % 20))).collect();
        expected.extend(texts.iter().map(|text| text.clone().unwrap_or_else(|| "-".to_owned())));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(texts))]).expect("one column");
        writer.write(&batch).expect("written");
        writer.flush().expect("a row group");
    }
    let bytes = bytes::Bytes::from(writer.into_inner().expect("finished"));
    for batch_rows in [1, 99, 100, 101, 150, 1000] {
        let mut decoder = ColumnarDecoder::parquet(bytes.clone(), request(&[("t", Type::Text)], batch_rows)).expect("readable");
        let pieces = all(&mut decoder).expect("readable");
        assert_eq!(pieces.iter().flat_map(|piece| column(piece, 0)).collect::<Vec<_>>(), expected, "{batch_rows}");
    }
}

#[test]
fn a_line_beyond_the_limit_is_a_bad_row() {
    let mut text = b"{\"i\":1}\n{\"i\":\"".to_vec();
    text.resize(text.len() + json::MAX_LINE_BYTES, b'x');
    text.extend_from_slice(b"\"}\n{\"i\":2}\n");
    let decoded = all(&mut JsonDecoder::new(&text[..], request(&[("i", Type::Int)], 10))).expect("readable").remove(0);
    assert_eq!(column(&decoded, 0), ["1", "2"]);
    assert!(decoded.bad[0].reason.starts_with("line 2: the line is longer than"), "{}", decoded.bad[0].reason);
}

#[test]
fn damaged_files_give_errors() {
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for format in [Format::Parquet, Format::ArrowFile, Format::ArrowStream] {
        let whole = written(format);
        let read = |bytes: Vec<u8>| decoder_of(format, bytes, request(&SAMPLE_FIELDS, 10)).and_then(|mut decoder| all(decoder.as_mut()));
        for _ in 0..100 {
            // Whatever is cut off, rows are not made up.
            let cut = random(whole.len());
            if let Ok(pieces) = read(whole[..cut].to_vec()) {
                assert!(format == Format::ArrowStream, "{format:?} cut at {cut} of {}", whole.len());
                assert!(pieces.iter().map(|piece| piece.rows).sum::<usize>() <= 6);
            }
            let mut altered = whole.clone();
            for _ in 0..=random(3) {
                let at = random(altered.len());
                altered[at] = random(256) as u8;
            }
            let _ = read(altered);
        }
    }
    for format in [Format::Json, Format::Csv] {
        for _ in 0..200 {
            let mut altered = written(format);
            for _ in 0..=random(5) {
                let at = random(altered.len());
                altered[at] = random(256) as u8;
            }
            if let Ok(pieces) = decoder_of(format, altered, request(&SAMPLE_FIELDS, 3)).and_then(|mut decoder| all(decoder.as_mut())) {
                assert!(pieces.iter().all(|piece| piece.rows + piece.bad.len() == piece.input_rows), "every row is kept or told of");
            }
        }
    }
}

#[test]
fn schemas_from_what_files_say() {
    let arrow = ArrowSchema::new(vec![
        ArrowField::new("a", DataType::UInt64, true),
        ArrowField::new("bytes", DataType::Binary, true),
        ArrowField::new("when", DataType::Timestamp(ArrowUnit::Nanosecond, Some("UTC".into())), true),
        ArrowField::new("a", DataType::Utf8, true),
    ]);
    let inferred = infer::from_arrow(&arrow);
    assert_eq!(inferred.schema.fields().len(), 2);
    assert_eq!(inferred.left_out, ["bytes (Binary)", "a (utf8, a second time)"]);
    assert_eq!(arrow_stream_schema(Cursor::new(written(Format::ArrowStream))).expect("a stream").fields().len(), 9);

    let types = |inferred: infer::Inferred| -> Vec<String> {
        inferred.schema.fields().iter().map(|field| format!("{} {}", field.name, field.ty)).collect()
    };
    let text = "{\"i\":1,\"u\":18446744073709551615,\"f\":1,\"s\":\"x\",\"b\":true,\"n\":null,\"o\":{},\"m\":1,\"w\":-1}\nbroken\n\
                {\"i\":-5,\"f\":0.5,\"m\":\"x\",\"late\":1e3,\"w\":18446744073709551615,\"wide\":123456789012345678901234567890}\n";
    assert_eq!(
        types(infer::from_json(text.as_bytes()).expect("readable")),
        [
            "i int64",
            "u uint64",
            "f float64",
            "s utf8",
            "b boolean",
            "n utf8",
            "o utf8",
            "m utf8",
            "w decimal(38,0)",
            "late float64",
            "wide decimal(38,0)"
        ]
    );
    let text = "i,f,b,zip,t,empty,day,nan\n1,1,true,01234,x,,2019-01-01,NaN\n-2,2.5,FALSE,99999,3,,2019-01-02,1\n";
    assert_eq!(
        types(infer::from_csv(text.as_bytes()).expect("readable")),
        ["i int64", "f float64", "b boolean", "zip utf8", "t utf8", "empty utf8", "day utf8", "nan float64"]
    );
}

//! Datums of Avro against the same events in JSON, and damaged ones.

use super::random::{Random, cases, seed};
use dynamic_cep::codec::avro::AvroDecoder;
use dynamic_cep::codec::json::JsonDecoder;
use dynamic_cep::codec::{Decoded, Decoder, Request};
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::id::FieldId;
use serde_json::{Value, json};
use std::sync::Arc;

const SCHEMA: &str = "fields: {id: utf8, card: utf8, amount: 'decimal(12,2)', at: timestamp(ms), day: date, kind: utf8, rate: float64, count: int64, online: boolean}\n\
    id: id\ntime: at\n";

const KINDS: [&str; 3] = ["chip", "swipe", "tap"];

/// What a writer says of its fields: name, type, and how a value of an event is written.
pub type Fields = Vec<(&'static str, Value, fn(&mut Vec<u8>, &Value))>;

/// The schema of a writer.
pub fn schema(fields: &Fields) -> String {
    let fields: Vec<Value> = fields.iter().map(|(name, ty, _)| json!({"name": name, "type": ty})).collect();
    json!({"type": "record", "name": "Payment", "namespace": "shop", "fields": fields}).to_string()
}

/// An event as that writer writes it.
pub fn datum(fields: &Fields, event: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    fields.iter().for_each(|(name, _, write)| write(&mut bytes, &event[*name]));
    bytes
}

/// A whole number of Avro: zigzag, seven bits a byte.
pub fn long(to: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn sized(to: &mut Vec<u8>, bytes: &[u8]) {
    long(to, bytes.len() as i64);
    to.extend(bytes);
}

pub fn text(to: &mut Vec<u8>, value: &Value) {
    sized(to, value.as_str().expect("text").as_bytes());
}

pub fn number(to: &mut Vec<u8>, value: &Value) {
    long(to, value.as_i64().expect("a whole number"));
}

pub fn double(to: &mut Vec<u8>, value: &Value) {
    to.extend(value.as_f64().expect("a number").to_le_bytes());
}

fn milliseconds_of(value: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(value.as_str().expect("text")).expect("a time").timestamp_millis()
}

pub fn milliseconds(to: &mut Vec<u8>, value: &Value) {
    long(to, milliseconds_of(value));
}

pub fn microseconds(to: &mut Vec<u8>, value: &Value) {
    long(to, milliseconds_of(value) * 1000);
}

fn days(to: &mut Vec<u8>, value: &Value) {
    let day = chrono::NaiveDate::parse_from_str(value.as_str().expect("text"), "%Y-%m-%d").expect("a date");
    long(to, (day - chrono::NaiveDate::default()).num_days());
}

fn cents_of(value: &Value) -> i64 {
    value.as_str().expect("a decimal as text").replace('.', "").parse().expect("digits")
}

fn cents(to: &mut Vec<u8>, value: &Value) {
    sized(to, &cents_of(value).to_be_bytes());
}

fn fixed_cents(to: &mut Vec<u8>, value: &Value) {
    to.extend(cents_of(value).to_be_bytes());
}

fn kind(to: &mut Vec<u8>, value: &Value) {
    long(to, KINDS.iter().position(|kind| value == kind).expect("a kind") as i64);
}

fn boolean(to: &mut Vec<u8>, value: &Value) {
    to.push(u8::from(value.as_bool().expect("a truth")));
}

/// A union with NULL first.
fn or_null(to: &mut Vec<u8>, value: &Value, write: fn(&mut Vec<u8>, &Value)) {
    long(to, i64::from(!value.is_null()));
    if !value.is_null() {
        write(to, value);
    }
}

fn decimal(ty: &Value) -> Value {
    let mut ty = ty.clone();
    ty["logicalType"] = "decimal".into();
    ty["precision"] = 12.into();
    ty["scale"] = 2.into();
    ty
}

fn logical(ty: &str, name: &str) -> Value {
    json!({"type": ty, "logicalType": name})
}

fn first() -> Fields {
    vec![
        ("id", logical("string", "uuid"), text),
        ("card", json!("string"), text),
        ("amount", decimal(&json!({"type": "bytes"})), cents),
        ("at", logical("long", "timestamp-millis"), milliseconds),
        ("day", logical("int", "date"), days),
        ("kind", json!({"type": "enum", "name": "Kind", "symbols": KINDS}), kind),
        ("rate", json!(["null", "double"]), |to, value| or_null(to, value, double)),
        ("count", json!(["null", "long"]), |to, value| or_null(to, value, number)),
        ("online", json!("boolean"), boolean),
    ]
}

/// A later one: another order, one field more, some types that are others.
fn second() -> Fields {
    vec![
        ("online", json!("boolean"), boolean),
        ("kind", json!("string"), text),
        ("tags", json!({"type": "array", "items": "string"}), |to, _| to.extend([4, 2, b'a', 2, b'b', 0])),
        ("amount", decimal(&json!({"type": "fixed", "name": "Cents", "size": 8})), fixed_cents),
        ("card", json!(["null", "string"]), |to, value| or_null(to, value, text)),
        ("at", logical("long", "timestamp-micros"), microseconds),
        ("rate", json!(["null", "double"]), |to, value| or_null(to, value, double)),
        ("id", json!("string"), text),
        ("count", json!(["null", "int"]), |to, value| or_null(to, value, number)),
        ("day", logical("int", "date"), days),
    ]
}

fn event(random: &mut Random) -> Value {
    let (a, b) = (random.next(), random.next() & 0xffff_ffff_ffff);
    let id = format!("{:08x}-{:04x}-{:04x}-{:04x}-{b:012x}", a >> 32, a >> 16 & 0xffff, a & 0xffff, a >> 48);
    let cents = random.below(2_000_000) as i64 - 1_000_000;
    let amount = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
    let rate = if random.one_in(4) { Value::Null } else { json!(random.below(1000) as f64 / 8.0) };
    let count = if random.one_in(4) { Value::Null } else { json!(random.below(1000) as i64 - 500) };
    let at = format!(
        "20{:02}-0{}-1{}T0{}:00:00.{:03}Z",
        10 + random.below(60),
        1 + random.below(9),
        random.below(9),
        random.below(9),
        random.below(1000)
    );
    json!({"id": id, "card": format!("c{}", random.below(9)), "amount": amount, "at": at, "day": &at[..10], "kind": random.pick(&KINDS), "rate": rate,
        "count": count, "online": random.one_in(2)})
}

fn request(rows: usize) -> Request {
    let schema = Arc::new(Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema"));
    let needed = (0..schema.fields().len()).map(FieldId::new).collect();
    Request { schema, needed, batch_rows: rows }
}

/// The good rows, in words.
fn rows(request: &Request, decoded: &Decoded) -> Vec<String> {
    let batch = EventBatch::new(&request.schema, 0, decoded.rows, decoded.columns.clone());
    (0..decoded.rows).map(|row| format!("{:?}", batch.row(&request.schema, row))).collect()
}

fn of_avro(schema: &str, datums: &[Vec<u8>]) -> (Vec<String>, Vec<(usize, String)>) {
    let request = request(datums.len());
    let datums: Vec<&[u8]> = datums.iter().map(Vec::as_slice).collect();
    let decoded = AvroDecoder::new(schema).expect("a schema").decode(&datums, &request);
    assert_eq!((decoded.input_rows, decoded.rows + decoded.bad.len()), (datums.len(), datums.len()));
    (rows(&request, &decoded), decoded.bad.into_iter().map(|bad| (bad.row, bad.reason)).collect())
}

#[test]
fn avro_says_what_json_says() {
    let mut random = Random::new(seed("avro_says_what_json_says"));
    let events: Vec<Value> = (0..300).map(|_| event(&mut random)).collect();
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let request = request(events.len());
    let decoded = JsonDecoder::new(lines.as_bytes(), request.clone()).decode().expect("JSON").expect("events");
    assert_eq!(decoded.rows, events.len(), "{:?}", decoded.bad.first());
    let expected = rows(&request, &decoded);
    let datums = |fields: &Fields| events.iter().map(|event| datum(fields, event)).collect::<Vec<_>>();
    for fields in [first(), second()] {
        let (told, bad) = of_avro(&schema(&fields), &datums(&fields));
        assert_eq!(bad, []);
        let differs = told.iter().zip(&expected).find(|(told, expected)| told != expected);
        assert_eq!(differs, None);
        assert_eq!(told.len(), expected.len());
    }

    // Fields that are taken by their places are noticed.
    let mut swapped = first();
    (swapped[0].0, swapped[1].0) = ("card", "id");
    (swapped[0].1, swapped[1].1) = (json!("string"), json!("string"));
    assert_ne!(of_avro(&schema(&swapped), &datums(&first())).0, expected);
}

#[test]
fn what_the_schema_of_events_cannot_take_is_told_by_name() {
    let fields: Fields = vec![
        ("id", json!("string"), text),
        ("count", json!("double"), double),
        ("online", json!({"type": "map", "values": "int"}), |to, _| to.push(0)),
    ];
    let events = [json!({"id": "a", "count": 1.0}), json!({"id": "b", "count": 1.5}), json!({"id": "c", "count": 3.0})];
    let datums = |fields: &Fields| events.iter().map(|event| datum(fields, event)).collect::<Vec<_>>();
    let (told, bad) = of_avro(&schema(&fields), &datums(&fields));
    assert!(told.is_empty() && bad.len() == 3 && bad[0].1.contains("`online`"), "{bad:?}");
    let fields = fields[..2].to_vec();
    let (told, bad) = of_avro(&schema(&fields), &datums(&fields));
    assert!(told.len() == 2 && told[1].contains('3'), "{told:?}");
    assert!(bad.len() == 1 && bad[0].0 == 1 && bad[0].1.contains("count"), "{bad:?}");
    for wrong in ["", "{", "\"string\"", "{\"type\": \"record\", \"name\": \"R\", \"fields\": [{\"name\": \"a\", \"type\": \"Unknown\"}]}"]
    {
        assert!(AvroDecoder::new(wrong).is_err(), "{wrong}");
    }
}

/// Whatever becomes of a datum or of a schema, the other events stay what they are, and nothing panics.
#[test]
fn damaged_datums_hurt_nobody_else() {
    let mut random = Random::new(seed("damaged_datums_hurt_nobody_else"));
    let mut rejected = 0;
    for case in 0..cases(1000) {
        let fields = if random.one_in(2) { first() } else { second() };
        let mut schema = schema(&fields);
        let events: Vec<Value> = (0..1 + random.below(9)).map(|_| event(&mut random)).collect();
        let mut datums: Vec<Vec<u8>> = events.iter().map(|event| datum(&fields, event)).collect();
        let (whole, _) = of_avro(&schema, &datums);
        let hurt = random.below(datums.len());
        let bytes = &mut datums[hurt];
        let at = random.below(bytes.len());
        let how = random.below(4);
        match how {
            0 => bytes.truncate(at),
            1 => bytes.push(random.next() as u8),
            2 => bytes[at] ^= 1 << random.below(8),
            _ => bytes[at..].iter_mut().for_each(|byte| *byte = random.next() as u8),
        }
        let (told, bad) = of_avro(&schema, &datums);
        let others = |rows: &[String], without: bool| {
            let others = rows.iter().enumerate().filter(|(row, _)| !without || *row != hurt);
            others.map(|(_, told)| told.clone()).collect::<Vec<_>>()
        };
        assert_eq!(others(&told, bad.is_empty()), others(&whole, true), "case {case}");
        assert!(bad.iter().all(|(row, reason)| *row == hurt && !reason.is_empty()), "case {case}: {bad:?}");
        assert!(how > 1 || bad.len() == 1, "case {case}: one byte too few or too many is noticed");
        rejected += bad.len();

        // A damaged schema is an error, or reads something else.
        let at = random.below(schema.len());
        schema.replace_range(at..=at, ["", "1", "\"", "x", "}", "null"][random.below(6)]);
        if let Ok(mut decoder) = AvroDecoder::new(&schema) {
            let datums: Vec<&[u8]> = datums.iter().map(Vec::as_slice).collect();
            let decoded = decoder.decode(&datums, &request(datums.len()));
            assert_eq!((decoded.input_rows, decoded.rows + decoded.bad.len()), (datums.len(), datums.len()), "case {case}: {schema}");
        }
    }
    assert!(rejected > 0, "some were damaged so that it shows");
}

use super::*;
use crate::codec::Decoder;
use crate::codec::json::JsonDecoder;
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

/// Answers what it is told to, one request after the other; its address.
fn registry(answers: Vec<(u16, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (status, body) in answers {
            let mut stream = listener.accept().unwrap().0;
            let _head: Vec<String> = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} It\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
        }
    });
    address
}

fn request() -> Request {
    let schema = Arc::new(Schema::parse("schema.yaml", b"fields: {a: int64, b: int64}\n").unwrap());
    Request { schema, needed: (0..2).map(FieldId::new).collect(), batch_rows: 100 }
}

fn rows(decoded: &Decoded) -> Vec<String> {
    let schema = request().schema;
    let batch = EventBatch::new(&schema, 0, decoded.rows, decoded.columns.clone());
    (0..decoded.rows).map(|row| format!("{:?}", batch.row(&schema, row))).collect()
}

fn bad(decoded: &Decoded) -> Vec<(usize, &str)> {
    decoded.bad.iter().map(|bad| (bad.row, bad.reason.as_str())).collect()
}

const BOTH: &str = r#"{"schema": "{\"type\": \"record\", \"name\": \"R\", \"fields\": [{\"name\": \"a\", \"type\": \"int\"}, {\"name\": \"b\", \"type\": \"long\"}]}"}"#;
const ONLY_B: &str =
    r#"{"schema": "{\"type\": \"record\", \"name\": \"R\", \"fields\": [{\"name\": \"b\", \"type\": \"int\"}]}", "id": 2}"#;
const NOT_FOUND: (u16, &str) = (404, r#"{"error_code": 40403, "message": "Schema 9 not found"}"#);

#[test]
fn messages_of_several_schemas_stay_in_their_order() {
    let schemas = Schemas::open(&Avro { registry: registry(vec![(200, BOTH), (200, ONLY_B), NOT_FOUND]), ..Avro::default() }).unwrap();
    let messages: [&[u8]; 9] = [
        &[0, 0, 0, 0, 2, 2],
        &[0, 0, 0, 0, 1, 4, 6],
        b"",
        &[0, 0, 0, 0, 2, 8],
        &[0, 0, 0, 0, 9, 8],
        &[0, 0, 0, 0, 1, 10],
        &[0, 0, 0, 0],
        &[1, 0, 0, 0, 1, 10, 12],
        &[0, 0, 0, 0, 1, 14, 16],
    ];
    let json = b"{\"b\": 1}\n{\"a\": 2, \"b\": 3}\n{\"b\": 4}\n{\"a\": 7, \"b\": 8}\n";
    let expected = rows(&JsonDecoder::new(&json[..], request()).decode().unwrap().unwrap());
    // What is known is not asked for again: the registry would not answer.
    for _ in 0..3 {
        let decoded = schemas.decode(&messages, &request()).unwrap();
        assert_eq!(rows(&decoded), expected);
        let told = bad(&decoded);
        let numbers: Vec<usize> = told.iter().map(|(row, _)| *row).collect();
        assert_eq!((decoded.input_rows, numbers), (9, vec![2, 4, 5, 6, 7]));
        assert!(told[0].1.contains("empty") && told[1].1.contains("no schema 9") && told[4].1.contains("begin with a zero"), "{told:?}");
    }
}

#[test]
fn a_registry_that_fails_is_no_fault_of_the_messages() {
    let message: [&[u8]; 1] = [&[0, 0, 0, 0, 1, 4, 6]];
    let answers = vec![(500, "{}"), (404, "<html>nothing here</html>"), (200, "no JSON"), (200, "{}"), (200, BOTH)];
    let failures = answers.len() - 1;
    let schemas = Schemas::open(&Avro { registry: registry(answers), ..Avro::default() }).unwrap();
    for _ in 0..failures {
        let told = schemas.decode(&message, &request()).expect_err("the registry fails");
        assert!(told.contains("kafka.avro.registry") && told.contains("/schemas/ids/1"), "{told}");
    }
    assert_eq!(schemas.decode(&message, &request()).unwrap().rows, 1);
    let gone = Schemas::open(&Avro { registry: registry(Vec::new()), ..Avro::default() }).unwrap();
    assert!(gone.decode(&message, &request()).is_err());
}

#[test]
fn a_schema_that_cannot_be_used_is_told() {
    let wrong = [
        (r#"{"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}"#, "PROTOBUF"),
        (r#"{"schema": "\"Other\"", "references": [{"name": "Other"}]}"#, "refers to other schemas"),
        (r#"{"schema": "\"int\""}"#, "Expected a Record"),
    ];
    for (answer, reason) in wrong {
        let schemas = Schemas::open(&Avro { registry: registry(vec![(200, answer)]), ..Avro::default() }).unwrap();
        let decoded = schemas.decode(&[&[0, 0, 0, 0, 1, 4]], &request()).unwrap();
        assert!(bad(&decoded)[0].1.contains(reason), "{:?}", bad(&decoded));
    }
    let told = |schema: &str| Schemas::open(&Avro { schema: schema.into(), ..Avro::default() }).err().expect("no schema");
    assert!(told("nowhere.avsc").contains("nowhere.avsc"));
}

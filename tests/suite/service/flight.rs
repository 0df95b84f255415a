//! Arrow Flight: events that come by it are judged as those over HTTP, by the same rules, state and limits.

use super::{Process, WINDOWS, events, folder, large};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Decimal128Type, Int32Type, UInt32Type};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

fn start(folder: &Path, key: Option<&str>) -> Process {
    Process::start_with(folder, key, &[("DYNAMIC_CEP_FLIGHT_LISTEN", "127.0.0.1:0")])
}

async fn client(process: &Process) -> FlightServiceClient<Channel> {
    let log = process.log();
    let address = log.lines().find_map(|line| line.strip_prefix("Arrow Flight at grpc://")).expect("it says where").to_owned();
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("it listens");
    FlightServiceClient::new(channel)
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("text"));
    request
}

fn messages(descriptor: FlightDescriptor, batches: Vec<RecordBatch>) -> impl Stream<Item = FlightData> + Send {
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor));
    encoder.build(tokio_stream::iter(batches.into_iter().map(Ok))).map(|message| message.expect("a message"))
}

fn score() -> FlightDescriptor {
    FlightDescriptor::new_path(vec!["score".to_owned()])
}

/// The answers to events, with what is said of each batch, or why there are no more.
async fn answers(stream: tonic::Streaming<FlightData>) -> (Vec<(RecordBatch, Value)>, Option<Status>) {
    let mut decoder = FlightDataDecoder::new(stream.map(|message| message.map_err(|status| FlightError::Tonic(Box::new(status)))));
    let mut found = Vec::new();
    while let Some(decoded) = decoder.next().await {
        match decoded {
            Err(FlightError::Tonic(status)) => return (found, Some(*status)),
            Err(error) => panic!("{error}"),
            Ok(decoded) => {
                if let DecodedPayload::RecordBatch(batch) = decoded.payload {
                    found.push((batch, serde_json::from_slice(&decoded.inner.app_metadata).expect("JSON")));
                }
            }
        }
    }
    (found, None)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("an answer in time") })
}

fn exchange(process: &Process, key: &str, to: FlightDescriptor, batches: Vec<RecordBatch>) -> (Vec<(RecordBatch, Value)>, Option<Status>) {
    wait(async {
        match client(process).await.do_exchange(with_key(key, messages(to, batches))).await {
            Ok(response) => answers(response.into_inner()).await,
            Err(status) => (Vec::new(), Some(status)),
        }
    })
}

/// Events as columns; amounts are texts, of which some may be no numbers.
fn batch(events: &[Value]) -> RecordBatch {
    let text = |event: &Value, name: &str| event.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let column = |name: &str| -> ArrayRef { Arc::new(events.iter().map(|event| text(event, name)).collect::<StringArray>()) };
    let mut columns: Vec<(&str, ArrayRef)> = vec![("id", column("id")), ("amount", column("amount")), ("at", column("at"))];
    let cards: arrow::array::DictionaryArray<Int32Type> = events.iter().map(|event| event["card"].as_str()).collect();
    columns.insert(1, ("card", Arc::new(cards)));
    if events.iter().any(|event| event.get("tenant").is_some()) {
        columns.push(("tenant", column("tenant")));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("columns")
}

/// What does not depend on how an event came: id, score, action and rules of each, or that there is none.
type Told = Option<(String, i128, String, Vec<String>)>;

fn of_flight(batches: &[(RecordBatch, Value)]) -> Vec<Told> {
    let mut told = Vec::new();
    for (batch, metadata) in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("{name} in {:?}", batch.schema()));
        let text = |name: &str, row: usize| column(name).as_string::<i32>().value(row).to_owned();
        assert_eq!(column("index").as_primitive::<UInt32Type>().values().to_vec(), (0..batch.num_rows() as u32).collect::<Vec<_>>());
        assert_eq!(
            (metadata["events"].as_u64(), metadata["rejected"].as_u64()),
            (Some(batch.num_rows() as u64), Some((batch.num_rows() - column("error").null_count()) as u64))
        );
        assert!(metadata["generation"].is_string());
        for row in 0..batch.num_rows() {
            assert_eq!(column("error").is_null(row), column("score").is_valid(row), "a decision or a reason");
            told.push(column("error").is_null(row).then(|| {
                let rules = column("rules").as_list::<i32>().value(row);
                let rules = rules.as_string::<i32>().iter().map(|rule| rule.expect("a name").to_owned()).collect();
                (text("id", row), column("score").as_primitive::<Decimal128Type>().value(row), text("action", row), rules)
            }));
        }
    }
    told
}

fn of_http(results: &Value) -> Vec<Told> {
    let told = |one: &Value| {
        one.get("error").is_none().then(|| {
            let score = (one["score"].as_f64().expect("a score") * 1000.0).round() as i128;
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            (text(&one["id"]), score, text(&one["action"]), one["rules"].as_array().expect("rules").iter().map(text).collect())
        })
    };
    results["results"].as_array().expect("results").iter().map(told).collect()
}

#[test]
fn events_by_flight_are_judged_as_those_over_http_also_after_a_kill() {
    let mut events = events(400);
    events[17]["amount"] = json!("many");
    events[333]["at"] = json!("yesterday");
    let prepared = || {
        let folder = folder();
        let process = start(folder.path(), None);
        let version = process.push("all", WINDOWS);
        process.activate("all", version);
        (folder, process)
    };
    let (_whole, process) = prepared();
    let right: Vec<Told> = events.chunks(50).flat_map(|events| of_http(&process.done("POST", "/v1/score", &json!(events)))).collect();
    let often = |told: &Told| told.as_ref().is_some_and(|(.., rules)| rules.iter().any(|rule| rule.ends_with("/often")));
    assert!(right.iter().any(often) && !right.iter().all(often), "windows hold state");
    assert_eq!(right.iter().filter(|told| told.is_none()).count(), 2);

    let (folder, process) = prepared();
    // More batches than may be on their way, and events over HTTP between two exchanges.
    let batches: Vec<RecordBatch> = events[..200].chunks(20).map(batch).collect();
    let (first, ended) = exchange(&process, &process.key, score(), batches);
    assert!(ended.is_none() && first.len() == 10, "{ended:?}");
    let over_http = of_http(&process.done("POST", "/v1/score", &json!(events[200..250])));
    let (key, findings) = (process.key.clone(), process.done("GET", "/v1/findings?limit=1000", &Value::Null));
    assert!(!findings["findings"].as_array().expect("findings").is_empty(), "patterns see them, too");
    process.kill();
    let process = start(folder.path(), Some(&key));
    let (rest, ended) = exchange(&process, &key, FlightDescriptor::new_cmd("score"), events[250..].chunks(30).map(batch).collect());
    assert!(ended.is_none(), "{ended:?}");
    let told = [of_flight(&first), over_http, of_flight(&rest)].concat();
    assert_eq!(told, right);

    // What a row or a batch in a wrong place would do is seen.
    let mut shifted = rest.clone();
    shifted.swap(0, 1);
    assert_ne!([of_flight(&first), right[200..250].to_vec(), of_flight(&shifted)].concat(), right, "batches in a wrong order");
    let mut shifted = told.clone();
    shifted.rotate_left(1);
    assert_ne!(shifted, right, "decisions of the next row");

    // The journal has every good event once, as lines that are read back.
    let journal = std::fs::read_to_string(folder.path().join("journal/00000000000000000000.ndjson")).expect("a journal");
    let ids: Vec<String> =
        journal.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned()).collect();
    let good: Vec<String> = (0..400).filter(|row| ![17, 333].contains(row)).map(|row: usize| row.to_string()).collect();
    assert_eq!(ids, good);
}

fn refused(told: (Vec<(RecordBatch, Value)>, Option<Status>), code: Code, words: &str) {
    let status = told.1.expect("a refusal");
    assert!(told.0.is_empty() && status.code() == code && status.message().contains(words), "{status:?}");
}

#[test]
fn who_may_not_and_what_is_none_is_refused_in_the_words_of_http() {
    let folder = folder();
    let process = start(folder.path(), None);
    let (key, some) = (process.key.clone(), || vec![batch(&events(3))]);
    refused(exchange(&process, &key, score(), some()), Code::FailedPrecondition, "there is no schema yet");
    let version = process.push("all", &large(50, "block"));
    process.activate("all", version);

    refused(exchange(&process, "dcep_0_0", score(), some()), Code::Unauthenticated, "there is no such key");
    let viewer = process.add_key("viewer", None);
    refused(exchange(&process, &viewer, score(), some()), Code::PermissionDenied, "a key of the role `viewer` may not do this");
    let elsewhere = FlightDescriptor::new_path(vec!["a".to_owned(), "b".to_owned()]);
    refused(exchange(&process, &key, elsewhere, some()), Code::NotFound, "there is no flight `a/b`; the path, or the command, is `score`");
    // A message may have as many bytes as a body: a million here.
    let long = vec![json!({"id": "x".repeat(1_100_000), "card": "1", "amount": 1, "at": "2026-01-01T00:00:00Z"})];
    refused(exchange(&process, &key, score(), vec![batch(&long)]), Code::OutOfRange, "too large");
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0]));
    let wrong = RecordBatch::try_from_iter([("amount", times)]).expect("a batch");
    refused(exchange(&process, &key, score(), vec![wrong]), Code::InvalidArgument, "column `amount`");
    let status = wait(async { client(&process).await.do_get(with_key(&key, Ticket::new("score"))).await }).expect_err("a refusal");
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");

    // Columns that the schema does not have are passed over, and those that the events do not have are NULL.
    let extra = RecordBatch::try_from_iter([
        ("amount", Arc::new(Int64Array::from(vec![51, 50])) as ArrayRef),
        ("unknown", Arc::new(BooleanArray::from(vec![true, false]))),
    ]);
    let (told, ended) = exchange(&process, &key, score(), vec![extra.expect("a batch")]);
    assert!(ended.is_none() && told[0].0.column_by_name("id").expect("ids").null_count() == 2);
    let actions = told[0].0.column_by_name("action").expect("actions").as_string::<i32>().iter().flatten().collect::<Vec<_>>();
    assert_eq!(actions, ["block", "allow"]);
}

#[test]
fn a_key_of_one_tenant_brings_that_tenants_events_alone() {
    let folder = folder();
    let process = start(folder.path(), None);
    for (tenant, limit) in [("all", 90), ("acme", 10)] {
        let version = process.push(tenant, &large(limit, "review"));
        process.activate(tenant, version);
    }
    let key = process.add_key("scorer", Some("acme"));
    let event = |tenant: &str| json!({"id": "1", "tenant": tenant, "card": "c", "amount": 50, "at": "2026-01-01T00:00:00Z"});
    let mut own = event("acme");
    own.as_object_mut().expect("an object").remove("tenant");
    let (told, ended) = exchange(&process, &key, score(), vec![batch(&[own])]);
    assert!(ended.is_none());
    assert_eq!(of_flight(&told)[0].as_ref().expect("a decision").3, ["acme/main/large"]);
    let (told, ended) = exchange(&process, &key, score(), vec![batch(&[event("acme"), event("other")])]);
    assert!(ended.is_none());
    let error = told[0].0.column_by_name("error").expect("errors").as_string::<i32>();
    assert!(error.is_valid(1) && error.value(1).contains("the key is not for the tenant `other`"), "{error:?}");
    assert!(of_flight(&told)[0].is_some() && told[0].1["rejected"] == 1);

    // A tenant that brings more than it may is told so, and what it brought before was judged.
    process.done("PATCH", "/v1/tenants/acme", &json!({"events_per_second": 5}));
    let batches = vec![batch(&vec![event("acme"); 20]); 3];
    let (told, ended) = exchange(&process, &key, score(), batches);
    let status = ended.expect("a refusal");
    assert!(told.len() == 1 && status.code() == Code::ResourceExhausted, "{} {status:?}", told.len());
}

#[test]
fn an_exchange_that_is_open_does_not_keep_a_process_from_its_end() {
    let folder = folder();
    let process = start(folder.path(), None);
    let version = process.push("all", &large(50, "block"));
    process.activate("all", version);
    wait(async {
        let (to, brought) = mpsc::channel(8);
        let mut encoded = messages(score(), vec![batch(&events(30))]);
        while let Some(message) = encoded.next().await {
            to.send(message).await.expect("room");
        }
        let response = client(&process).await.do_exchange(with_key(&process.key, ReceiverStream::new(brought))).await.expect("answers");
        let mut stream = response.into_inner();
        assert!(stream.message().await.expect("the schema").is_some() && stream.message().await.expect("a batch").is_some());
        let ending = tokio::task::spawn_blocking(move || process.end());
        let status = stream.message().await.expect_err("the end is told");
        assert!(status.code() == Code::Unavailable && status.message().contains("the process ends"), "{status:?}");
        drop(to);
        ending.await.expect("it ends");
    });
}

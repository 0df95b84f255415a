//! Arrow Flight: in a `DoExchange` batches of events come, and one of decisions goes back for each, in their order.
//!
//! An exchange is one of the requests that are answered at the same time, each of its batches is one of those that a key may send, and its events wait and are judged as those of `/v1/score`.
//! No more than four batches of an exchange are on their way: who does not take answers is not read from.

use super::api::{admitted, caller, judging, submit, unavailable};
use super::auth::Act;
use super::core::Service;
use super::problem::Problem;
use super::scorer::{Input, Scored, request};
use super::sensitive::Sensitive;
use crate::codec::columnar::{canonical, guarded};
use crate::event::batch::canonical_type;
use crate::event::{Schema, Type};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, UInt32Type};
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::{DecodedFlightData, DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

/// What a descriptor names.
const SCORE: &str = "score";

/// What requests are counted as.
const ROUTE: &str = "DoExchange";

/// Batches of an exchange that are on their way at the same time.
const IN_FLIGHT: usize = 4;

/// Events of a batch.
const EVENTS_MAX: usize = 100_000;

/// What answers the calls.
pub struct Flight {
    service: Arc<Service>,
    /// Whether the process ends: then exchanges do, after what they have brought was answered.
    stopping: watch::Receiver<bool>,
}

/// The calls of a process.
pub fn router(service: &Arc<Service>, stopping: watch::Receiver<bool>) -> Router {
    let flight = FlightServiceServer::new(Flight { service: Arc::clone(service), stopping });
    let flight = flight.max_decoding_message_size(service.config.http.body_bytes_max).max_encoding_message_size(usize::MAX);
    Routes::new(flight).into_axum_router()
}

/// A refusal in the words that HTTP has for it.
fn status(problem: &Problem) -> Status {
    let code = match problem.status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::CONFLICT => Code::FailedPrecondition,
        StatusCode::PAYLOAD_TOO_LARGE => Code::OutOfRange,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, format!("{}: {}", problem.title, problem.detail))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn no_such<T>(call: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{call} is not answered; events are judged by DoExchange with the descriptor `{SCORE}`")))
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = ReceiverStream<Result<FlightData, Status>>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        let (metadata, _, events) = request.into_parts();
        let (to, answers) = mpsc::channel(1);
        tokio::spawn(exchange(Arc::clone(&self.service), metadata.into_headers(), events, self.stopping.clone(), to));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        no_such("Handshake")
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        no_such("ListFlights")
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        no_such("GetFlightInfo")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        no_such("PollFlightInfo")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        no_such("GetSchema")
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        no_such("DoGet")
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        no_such("DoPut")
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        no_such("DoAction")
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        no_such("ListActions")
    }
}

/// What is to be told next.
enum Next {
    /// What answers look like, once.
    Schema(SchemaRef),
    Batch(Asked),
}

/// A batch that is being judged.
struct Asked {
    rows: usize,
    schema: SchemaRef,
    begun: Instant,
    answer: oneshot::Receiver<Result<Scored, String>>,
}

type Told = mpsc::Sender<Result<FlightData, Status>>;

async fn exchange(
    service: Arc<Service>,
    headers: HeaderMap,
    events: Streaming<FlightData>,
    mut stopping: watch::Receiver<bool>,
    told: Told,
) {
    let begun = Instant::now();
    let _place = match admitted(&service, ROUTE, &headers, begun).await {
        Ok(place) => place,
        Err(problem) => {
            service.metrics.request(ROUTE, problem.status.as_u16(), begun.elapsed());
            // Whoever asked may have gone away.
            let _ = told.send(Err(status(&problem))).await;
            return;
        }
    };
    // Besides those in the channel one is waited for.
    let (next, asked) = mpsc::channel(IN_FLIGHT - 1);
    let reading = async {
        if let Err(problem) = read(&service, &headers, events, &mut stopping, &next).await {
            let _ = next.send(Err(problem)).await;
        }
        drop(next);
    };
    tokio::join!(reading, answer(&service, asked, &told));
}

/// Hands over the batches as they come.
async fn read(
    service: &Service,
    headers: &HeaderMap,
    mut events: Streaming<FlightData>,
    stopping: &mut watch::Receiver<bool>,
    next: &mpsc::Sender<Result<Next, Problem>>,
) -> Result<(), Problem> {
    let key = caller(service, headers, Act::Score, None)?;
    let first = tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => return Err(unavailable("the process ends")),
        first = events.message() => first.map_err(|status| unreadable(FlightError::Tonic(Box::new(status))))?,
    };
    let Some(first) = first else { return Ok(()) };
    named(first.flight_descriptor.as_ref())?;
    // Some clients send the descriptor by itself, in a message without data.
    let events =
        tokio_stream::once(Ok(first)).chain(events).filter(|message| message.as_ref().map_or(true, |data| !data.data_header.is_empty()));
    let mut decoder = FlightDataDecoder::new(events.map(|message| message.map_err(|status| FlightError::Tonic(Box::new(status)))));
    let mut answers = None;
    // Where nobody asks any more there is nobody to tell.
    while let Ok(place) = next.reserve().await {
        let decoded = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return Err(unavailable("the process ends")),
            decoded = decoded(&mut decoder) => decoded,
        };
        let DecodedFlightData { payload, .. } = match decoded {
            None => return Ok(()),
            Some(decoded) => decoded.map_err(unreadable)?,
        };
        match (payload, &answers) {
            (DecodedPayload::None, _) => {}
            (DecodedPayload::RecordBatch(batch), Some(schema)) => {
                place.send(Ok(Next::Batch(ask(service, headers, &batch, Arc::clone(schema))?)));
            }
            (DecodedPayload::RecordBatch(_), None) => return Err(Problem::bad_request("a batch came before its schema")),
            (DecodedPayload::Schema(_), _) => {
                let (running, _) = judging(service, &key)?;
                let schema = answers.insert(answers_schema(&running.schema, &service.shared.sensitive()));
                place.send(Ok(Next::Schema(Arc::clone(schema))));
            }
        }
    }
    Ok(())
}

/// The next message.
async fn decoded(decoder: &mut FlightDataDecoder) -> Option<Result<DecodedFlightData, FlightError>> {
    poll_fn(|context| {
        let polled = guarded(|| Ok(Pin::new(&mut *decoder).poll_next(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Some(Err(FlightError::DecodeError("the message is damaged".to_owned())))))
    })
    .await
}

fn unreadable(error: FlightError) -> Problem {
    match error {
        FlightError::Tonic(status) if status.code() == Code::OutOfRange => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", status.message())
        }
        FlightError::Tonic(status) => Problem::bad_request(status.message()),
        error => Problem::bad_request(format!("a message that is no Arrow data: {error}")),
    }
}

/// Whether an exchange asks for what there is.
fn named(descriptor: Option<&FlightDescriptor>) -> Result<(), Problem> {
    let unknown =
        |what: String| Problem::new(StatusCode::NOT_FOUND, "not found", format!("{what}; the path, or the command, is `{SCORE}`"));
    let descriptor = descriptor.ok_or_else(|| unknown("the first message has no descriptor".to_owned()))?;
    if descriptor.cmd == SCORE || matches!(&descriptor.path[..], [path] if path == SCORE) {
        return Ok(());
    }
    let cmd = String::from_utf8_lossy(&descriptor.cmd);
    let name = if descriptor.path.is_empty() { cmd.into_owned() } else { descriptor.path.join("/") };
    Err(unknown(format!("there is no flight `{}`", name.escape_default())))
}

/// Hands over a batch. The key is looked at each time: it may have been taken back.
fn ask(service: &Service, headers: &HeaderMap, batch: &RecordBatch, answers: SchemaRef) -> Result<Asked, Problem> {
    let (begun, rows) = (Instant::now(), batch.num_rows());
    let key = caller(service, headers, Act::Score, None)?;
    let limits = &service.config.limits;
    let counted = service.shared.limits.request(&key.id, begun);
    counted.map_err(|wait| Problem::too_many(format!("a key may send {} requests a second", limits.requests_per_second), wait))?;
    if rows > EVENTS_MAX {
        let detail = format!("a batch brings at most {EVENTS_MAX} events");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", detail));
    }
    let (running, tenant) = judging(service, &key)?;
    let schema = Arc::new(service.shared.sensitive().marked(&running.schema));
    let of_tenant = tenant.as_deref().zip(schema.tenant).map(|(tenant, field)| with_tenant(batch, &schema.field(field).name, tenant));
    let decoded = canonical(&request(&schema, rows), of_tenant.as_ref().unwrap_or(batch)).map_err(Problem::bad_request)?;
    let answer = submit(service, &running, &key, rows, tenant, |reply| Input::Columns(decoded, reply))?;
    Ok(Asked { rows, schema: answers, begun, answer })
}

/// A batch whose events are of a tenant where it does not say whose they are.
fn with_tenant(batch: &RecordBatch, field: &str, tenant: &str) -> RecordBatch {
    if batch.column_by_name(field).is_some() {
        return batch.clone();
    }
    let fields = batch.schema().fields().iter().cloned().chain([Arc::new(Field::new(field, DataType::Utf8, true))]).collect::<Vec<_>>();
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(tenant, batch.num_rows())));
    let columns = batch.columns().iter().cloned().chain([names]).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).expect("a column of the same length")
}

/// Tells what became of batches, in their order.
async fn answer(service: &Service, mut asked: mpsc::Receiver<Result<Next, Problem>>, told: &Told) {
    while let Some(next) = asked.recv().await {
        let (begun, answers) = match next {
            Ok(Next::Schema(schema)) => (None, Ok(schema_message(&schema))),
            Ok(Next::Batch(asked)) => (Some(asked.begun), asked.answered().await),
            Err(problem) => (Some(Instant::now()), Err(problem)),
        };
        if let Some(begun) = begun {
            let code = answers.as_ref().map_or_else(|problem| problem.status, |_| StatusCode::OK);
            service.metrics.request(ROUTE, code.as_u16(), begun.elapsed());
        }
        let failed = answers.is_err();
        if told.send(answers.map_err(|problem| status(&problem))).await.is_err() || failed {
            return;
        }
    }
}

fn schema_message(schema: &ArrowSchema) -> FlightData {
    SchemaAsIpc::new(schema, &arrow::ipc::writer::IpcWriteOptions::default()).into()
}

impl Asked {
    async fn answered(self) -> Result<FlightData, Problem> {
        let scored = self.answer.await.map_err(|_| unavailable("the process ends"))?.map_err(unavailable)?;
        let metadata = json!({"generation": scored.generation, "rejected": scored.rejected.len(), "events": self.rows}).to_string();
        let batch = answers(&self.schema, self.rows, &scored).map_err(|error| Problem::internal(&error))?;
        let messages = batches_to_flight_data(&self.schema, [&batch]).map_err(|error| Problem::internal(&error))?;
        // Before the batch there is the schema, which was told.
        let message = messages.into_iter().next_back().ok_or_else(|| Problem::internal(&"a batch without a message"))?;
        Ok(message.with_app_metadata(metadata))
    }
}

/// What answers look like: as [`super::answer::decision_batch`], with plain texts, and with why an event has no decision.
fn answers_schema(schema: &Schema, sensitive: &Sensitive) -> SchemaRef {
    let mut fields = vec![Field::new("index", DataType::UInt32, false)];
    for (name, field) in [("id", schema.id), ("tenant", schema.tenant)] {
        if let Some(field) = field {
            let ty = if sensitive.has(field) { Type::Text } else { schema.field(field).ty };
            fields.push(Field::new(name, plain(&canonical_type(ty)).clone(), true));
        }
    }
    let names = DataType::new_list(DataType::Utf8, true);
    for (name, kind) in [
        ("score", DataType::Decimal128(18, 3)),
        ("action", DataType::Utf8),
        ("rules", names.clone()),
        ("shadow_rules", names),
        ("error", DataType::Utf8),
    ] {
        fields.push(Field::new(name, kind, true));
    }
    Arc::new(ArrowSchema::new(fields))
}

fn plain(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values,
        kind => kind,
    }
}

/// A row for each event: its decision, or why there is none.
fn answers(schema: &SchemaRef, rows: usize, scored: &Scored) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut places: Vec<Option<u32>> = vec![None; rows];
    for (place, row) in scored.decisions.column(0).as_primitive::<UInt32Type>().values().iter().enumerate() {
        places[*row as usize] = Some(place as u32);
    }
    let places = UInt32Array::from(places);
    let column = |field: &Arc<Field>| -> Result<ArrayRef, arrow::error::ArrowError> {
        match field.name().as_str() {
            "index" => Ok(Arc::new(UInt32Array::from_iter_values(0..rows as u32))),
            "error" => Ok(Arc::new((0..rows).map(|row| scored.rejected.get(&row).map(String::as_str)).collect::<StringArray>())),
            name => {
                let column = scored.decisions.column_by_name(name).ok_or_else(|| arrow::error::ArrowError::SchemaError(name.to_owned()))?;
                let column = if places.null_count() == 0 { Arc::clone(column) } else { take(column, &places, None)? };
                cast(&column, field.data_type())
            }
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

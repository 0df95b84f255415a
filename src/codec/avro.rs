//! Datums of Avro: each is one event, as the schema of whoever wrote it says.
//!
//! The columns of a writer are those of the engine where they have the same names; what they hold is made canonical as columns of Parquet and Arrow are. So writers may have
//! fields that nobody asks for, lack others, and have them in any order.

use super::columnar::{canonical, guarded};
use super::{Decoded, Request};
use arrow::record_batch::RecordBatch;
use arrow_avro::errors::AvroError;
use arrow_avro::reader::{Decoder, DecoderMode, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use serde_json::Value;

/// The name under which the one schema of a decoder is kept.
const ONLY: Fingerprint = Fingerprint::Id(0);

/// Decodes datums of one writer's schema.
pub struct AvroDecoder {
    schema: AvroSchema,
    decoder: Decoder,
}

impl AvroDecoder {
    /// `schema`: of a record, in JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(schema: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(schema).map_err(|error| format!("no JSON: {error}"))?;
        read_uuids_as_text(&mut value);
        let schema = AvroSchema::new(value.to_string());
        let decoder = decoder(&schema)?;
        Ok(Self { schema, decoder })
    }

    /// As many rows as datums, those that cannot be read or do not fit the schema of events among the bad ones.
    #[must_use]
    pub fn decode(&mut self, datums: &[&[u8]], request: &Request) -> Decoded {
        let mut pieces = Vec::new();
        self.decode_into(datums, request, &mut pieces);
        Decoded::joined(&request.schema, pieces)
    }

    /// Datums are decoded together; where one of them cannot be, each half by itself, down to that one.
    fn decode_into(&mut self, datums: &[&[u8]], request: &Request, pieces: &mut Vec<Decoded>) {
        if datums.is_empty() {
            return;
        }
        let piece = match self.read(datums) {
            Ok(batch) => guarded(|| canonical(request, &batch)),
            Err(_) if datums.len() > 1 => {
                let (first, second) = datums.split_at(datums.len() / 2);
                self.decode_into(first, request, pieces);
                self.decode_into(second, request, pieces);
                return;
            }
            Err(reason) => Err(reason),
        };
        pieces.push(piece.unwrap_or_else(|reason| Decoded::rejected(&request.schema, datums.len(), &reason)));
    }

    fn read(&mut self, datums: &[&[u8]]) -> Result<RecordBatch, String> {
        let read = guarded(|| read(&mut self.decoder, datums));
        if read.is_err() {
            // Columns may have parts of what could not be read.
            self.decoder = decoder(&self.schema)?;
        }
        read
    }
}

fn decoder(schema: &AvroSchema) -> Result<Decoder, String> {
    guarded(|| {
        let mut schemas = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        let made = schemas.set(ONLY, schema.clone()).and_then(|_| {
            let builder = ReaderBuilder::new().with_writer_schema_store(schemas).with_active_fingerprint(ONLY);
            builder.with_decoder_mode(DecoderMode::UnframedDatum).with_batch_size(usize::MAX).build_decoder()
        });
        made.map_err(|fault| fault.to_string())
    })
}

fn read(decoder: &mut Decoder, datums: &[&[u8]]) -> Result<RecordBatch, String> {
    let unlike = |fault: AvroError| format!("the event is not as its writer's schema says: {fault}");
    for datum in datums {
        let used = decoder.decode(datum).map_err(unlike)?;
        if used < datum.len() {
            return Err(format!("the event ends after {used} bytes of {}", datum.len()));
        }
    }
    let batch = decoder.flush().map_err(unlike)?;
    let rows = batch.as_ref().map_or(0, RecordBatch::num_rows);
    batch.filter(|_| rows == datums.len()).ok_or_else(|| format!("{} datums, and {rows} events", datums.len()))
}

/// A UUID that is written as text stays the text that it is; events have no other type for it.
fn read_uuids_as_text(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if keys.get("type").is_some_and(|ty| ty == "string") && keys.get("logicalType").is_some_and(|ty| ty == "uuid") {
                keys.remove("logicalType");
            }
            keys.values_mut().for_each(read_uuids_as_text);
        }
        Value::Array(parts) => parts.iter_mut().for_each(read_uuids_as_text),
        _ => {}
    }
}

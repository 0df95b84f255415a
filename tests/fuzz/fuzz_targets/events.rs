//! A byte that chooses the format and the size of batches, and the input: it is decoded into canonical columns, row by row accounted for, or refused.

#![no_main]

use bytes::Bytes;
use dynamic_cep::codec::columnar::{ColumnarDecoder, arrow_file_schema, arrow_stream_schema, parquet_schema};
use dynamic_cep::codec::csv::CsvDecoder;
use dynamic_cep::codec::json::JsonDecoder;
use dynamic_cep::codec::{Decoder, Request, infer};
use dynamic_cep::event::EventBatch;
use dynamic_cep::id::FieldId;
use dynamic_cep_fuzz::SCHEMA;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else { return };
    let batch_rows = [1, 3, 1000][usize::from(kind / 5 % 3)];
    let needed = (0..SCHEMA.fields().len()).map(FieldId::new).collect();
    let request = Request { schema: Arc::new(SCHEMA.clone()), needed, batch_rows };
    let bytes = Bytes::copy_from_slice(content);
    let decoder: Result<Box<dyn Decoder>, String> = match kind % 5 {
        0 => {
            let _ = infer::from_csv(content);
            CsvDecoder::new(Cursor::new(bytes), request).map(|decoder| Box::new(decoder) as _)
        }
        1 => {
            let _ = infer::from_json(content);
            Ok(Box::new(JsonDecoder::new(Cursor::new(bytes), request)))
        }
        2 => {
            let _ = parquet_schema(&bytes).map(|(schema, _)| infer::from_arrow(&schema));
            ColumnarDecoder::parquet(bytes, request).map(|decoder| Box::new(decoder) as _)
        }
        3 => {
            let _ = arrow_file_schema(Cursor::new(&bytes)).map(|schema| infer::from_arrow(&schema));
            ColumnarDecoder::arrow_file(Cursor::new(bytes), request).map(|decoder| Box::new(decoder) as _)
        }
        _ => {
            let _ = arrow_stream_schema(content).map(|schema| infer::from_arrow(&schema));
            ColumnarDecoder::arrow_stream(Cursor::new(bytes), request).map(|decoder| Box::new(decoder) as _)
        }
    };
    let Ok(mut decoder) = decoder else { return };
    while let Ok(Some(piece)) = decoder.decode() {
        assert_eq!(piece.rows + piece.bad.len(), piece.input_rows, "every row is read or bad");
        assert!(piece.input_rows > 0 && piece.input_rows <= batch_rows, "{} rows of {batch_rows}", piece.input_rows);
        let batch = EventBatch::new(&SCHEMA, 0, piece.rows, piece.columns);
        (0..piece.rows).for_each(|row| assert_eq!(batch.row(&SCHEMA, row).len(), SCHEMA.fields().len()));
    }
});

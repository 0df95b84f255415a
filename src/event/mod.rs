//! Events: what a field may hold, how values compare, and the columns of a batch.

pub mod batch;
pub mod key;
pub mod schema;
pub mod schema_file;
pub mod set;
pub mod time;
pub mod value;

pub use batch::EventBatch;
pub use schema::{Field, Schema, TimeUnit, Type};
pub use schema_file::{SchemaError, parse_type};
pub use value::Value;

//! Events: what a field may hold, how values compare, and the columns of a batch.

pub mod batch;
pub mod key;
pub mod schema;
pub mod value;

pub use batch::EventBatch;
pub use schema::{Field, Schema, TimeUnit, Type};
pub use value::Value;

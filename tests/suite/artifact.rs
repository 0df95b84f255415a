//! Artifacts that were cut short, altered or made up: a clear error, or tables that match without a panic.

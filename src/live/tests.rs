//! Edges of changing rules.

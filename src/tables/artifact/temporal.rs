//! The sections about several events: windows and patterns.

use super::{ArtifactError, corrupt};
use crate::event::{Field, Schema, Type};
use crate::id::{FieldId, RuleId};
use crate::pattern::Pattern;
use crate::window::WindowColumn;
use std::sync::Arc;

/// The patterns in their section.
pub(super) fn patterns(bytes: &[u8], fields: &[Field]) -> Result<Vec<(RuleId, Arc<Pattern>)>, ArtifactError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<(u32, Pattern)> = postcard::from_bytes(bytes).map_err(|error| corrupt(format!("patterns: {error}")))?;
    match found.iter().find(|(_, pattern)| !pattern.is_well_formed(fields)) {
        Some((rule, _)) => Err(corrupt(format!("the pattern of rule {rule}"))),
        None => Ok(found.into_iter().map(|(rule, pattern)| (RuleId(rule), Arc::new(pattern))).collect()),
    }
}

/// The windows in their section.
pub(super) fn windows(bytes: &[u8], schema: &Schema) -> Result<Vec<WindowColumn>, ArtifactError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<WindowColumn> = postcard::from_bytes(bytes).map_err(|error| corrupt(format!("windows: {error}")))?;
    let Some(events) = schema.fields().len().checked_sub(found.len()) else { return Err(corrupt("number of windows")) };
    let (events, columns) = schema.fields().split_at(events);
    let is_time = |field: FieldId| events.get(field.index()).is_some_and(|field| matches!(field.ty, Type::Timestamp(_) | Type::Date));
    let of_events = [schema.id, schema.tenant, schema.key, schema.label].into_iter().flatten().all(|field| field.index() < events.len());
    let holds = |(column, field): (&WindowColumn, &Field)| column.window.is_well_formed(events) && column.window.ty() == field.ty;
    if !of_events || !schema.time.is_some_and(is_time) || !found.iter().zip(columns).all(holds) {
        return Err(corrupt("a window"));
    }
    Ok(found)
}

//! What would become of events if a version were live: the decisions of what is in service beside those of what would be, event by event.
//!
//! It is a trial of its own, with state that begins with nothing: who judges events does not know of it.

use super::answer::Told;
use super::core::Service;
use super::follow::{changes_to, refused};
use super::journal::{self, Tail};
use super::problem::Problem;
use super::registry::Active;
use super::scorer::{Shared, batch_of, request};
use super::sensitive::Sensitive;
use crate::codec::Decoder;
use crate::codec::json::JsonDecoder;
use crate::connector::kafka::config as kafka;
use crate::engine::router::Choice;
use crate::event::{EventBatch, Schema, Type, Value as Cell};
use crate::flow::Hits;
use crate::id::{FieldId, RuleId};
use crate::live::Snapshot;
use crate::stream::{Judged, Settings, Stream};
use crate::tables::artifact::ACTIONS;
use crate::temporal::finding::json as cell_json;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows that are judged at a time.
const ROWS: usize = 8192;

/// Decisions that are shown.
const SAMPLES: usize = 20;

/// Rules that are told of.
const RULES: usize = 1000;

/// Where stored events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// In the journal, to which requests brought them.
    Requests,
    /// In the topics of Kafka.
    Topics,
}

/// The events of a preview.
pub enum Events {
    /// The last so many of those that are stored; of none is said: as many as there are and may be. Without a place: in the topics where any are read, or else in the journal.
    Stored(Option<u64>, Option<Origin>),
    /// These lines, with how many there are.
    Lines(Vec<u8>, u64),
}

/// What a preview is of.
pub struct Trial {
    pub active: Active,
    pub events: Events,
    /// The field that says which events were to be caught: boolean, or a number that is 0 for those that were not.
    pub label: Option<String>,
    /// The only tenant whose events are told of.
    pub tenant: Option<String>,
}

/// Says that no preview is made any more, once it is dropped.
struct Turn(Arc<Service>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.previewing.store(false, Ordering::Release);
    }
}

/// Whether a preview is being made.
pub type Previewing = AtomicBool;

/// What would change if a version were put in service.
///
/// # Errors
/// Another preview that is not done; more events than may be; a field that is no label; a version that is not there, or cannot be in service with the others.
pub async fn preview(service: &Arc<Service>, trial: Trial) -> Result<Value, Problem> {
    if service.previewing.swap(true, Ordering::AcqRel) {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many previews", "another preview is being made; try again"));
    }
    let turn = Turn(Arc::clone(service));
    let most = service.config.preview.events_max;
    let asked = match &trial.events {
        Events::Stored(events, _) => events.unwrap_or(0),
        Events::Lines(_, events) => *events,
    };
    if asked > most {
        let detail = format!("a preview is of at most {most} events (preview.events_max)");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", detail));
    }
    let kafka = &service.config.kafka;
    if !kafka.is_used() && matches!(trial.events, Events::Stored(_, Some(Origin::Topics))) {
        return Err(Problem::bad_request("from: no topics are read (kafka.brokers)"));
    }
    let running = service.needed()?;
    let sensitive = service.shared.sensitive();
    let schema = running.schema.clone();
    let label = trial.label.as_deref().map(|name| label(&schema, name)).transpose()?;
    let (before, entries, after) = service.entries_with(&trial.active).await?;
    let settings = service.stream_settings(Choice::Cpu);
    let folder = service.journal_folder();
    let (kafka, shared) = (kafka.clone(), Arc::clone(&service.shared));
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let Trial { active, events, tenant, .. } = trial;
        let (name, changes, columns) = changes_to(&before, &schema, &entries, &after)?;
        let next = running.live.draft(&before, Some(&name), &changes, columns).map_err(refused)?;
        let scope = Scope { prefix: prefix(&active), label, tenant, schema: Arc::new(schema), sensitive };
        let mut comparison = Comparison::new(scope, [before, next], settings);
        match events {
            Events::Stored(events, from) if kafka.is_used() && from != Some(Origin::Requests) => {
                comparison.read_topics(&kafka, &shared, events.unwrap_or(most)).map_err(|problem| {
                    tracing::warn!(problem, "a preview could not be made");
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Kafka is not to be read", problem)
                })?;
            }
            Events::Stored(events, _) => {
                let tail = journal::tail(&folder, events.unwrap_or(most));
                let Tail { parts, .. } = tail.map_err(|error| Problem::internal(&format!("{}: {error}", folder.display())))?;
                parts.into_iter().try_for_each(|part| comparison.read(part)).map_err(|error| Problem::internal(&error))?;
            }
            Events::Lines(lines, _) => comparison.read(Box::new(Cursor::new(lines))).map_err(|error| Problem::internal(&error))?,
        }
        Ok(comparison.told())
    });
    made.await.map_err(|error| Problem::internal(&error))?
}

fn prefix(active: &Active) -> String {
    format!("{}/{}/", active.tenant, active.rule_set)
}

fn label(schema: &Schema, name: &str) -> Result<FieldId, Problem> {
    let field =
        schema.find(name).ok_or_else(|| Problem::bad_request(format!("label: the schema has no field `{}`", name.escape_default())))?;
    match schema.field(field).ty {
        Type::Bool | Type::Int | Type::UInt => Ok(field),
        ty => Err(Problem::bad_request(format!("label: `{name}` is {ty}; a label is a boolean, or a whole number that is 0 or not"))),
    }
}

/// Where an event is, as a member of a JSON object.
type Place<'p> = dyn Fn(u64) -> (&'static str, Value) + 'p;

/// What is told of.
struct Scope {
    /// What the names of the rules begin with that are changed.
    prefix: String,
    label: Option<FieldId>,
    tenant: Option<String>,
    schema: Arc<Schema>,
    sensitive: Arc<Sensitive>,
}

/// How often something held, and was right to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    events: u64,
    /// Those of them that have a label.
    labelled: u64,
    /// Those of these that were to be caught.
    caught: u64,
}

impl Tally {
    fn add(&mut self, label: Option<bool>) {
        self.events += 1;
        self.labelled += u64::from(label.is_some());
        self.caught += u64::from(label == Some(true));
    }

    /// `of`: all events. `with_label`: precision and recall are told.
    fn told(self, of: Self, with_label: bool) -> Value {
        let ratio = |part: u64, whole: u64| if whole == 0 { Value::Null } else { json!(part as f64 / whole as f64) };
        let mut told = json!({"events": self.events, "rate": ratio(self.events, of.events)});
        if with_label {
            told["labelled"] = self.labelled.into();
            told["caught"] = self.caught.into();
            told["precision"] = ratio(self.caught, self.labelled);
            told["recall"] = ratio(self.caught, of.caught);
        }
        told
    }
}

/// One of the two that are compared.
struct Side {
    snapshot: Arc<Snapshot>,
    /// The places of names.
    names: HashMap<RuleId, usize>,
    /// By the place of its name, each rule that has matched.
    rules: BTreeMap<usize, Tally>,
    /// Events for which any rule acts otherwise than to allow them.
    flagged: Tally,
    /// Events that any live rule matches.
    hit: Tally,
    findings: u64,
}

struct Comparison {
    scope: Scope,
    settings: Settings,
    sides: [Side; 2],
    /// For each partition the state of both; for the lines of a file one.
    streams: HashMap<String, [Stream; 2]>,
    /// Names of rules, each once, and their places.
    names: Vec<String>,
    places: HashMap<String, usize>,
    all: Tally,
    rejected: u64,
    changed: u64,
    actions: BTreeMap<[u8; 2], u64>,
    samples: Vec<Value>,
    row: u64,
}

impl Comparison {
    fn new(scope: Scope, snapshots: [Arc<Snapshot>; 2], settings: Settings) -> Self {
        let side = |snapshot| Side {
            snapshot,
            names: HashMap::new(),
            rules: BTreeMap::new(),
            flagged: Tally::default(),
            hit: Tally::default(),
            findings: 0,
        };
        Self {
            scope,
            settings,
            sides: snapshots.map(side),
            streams: HashMap::new(),
            names: Vec::new(),
            places: HashMap::new(),
            all: Tally::default(),
            rejected: 0,
            changed: 0,
            actions: BTreeMap::new(),
            samples: Vec::new(),
            row: 0,
        }
    }

    /// Has both judge the events in these lines.
    fn read(&mut self, lines: Box<dyn BufRead + Send>) -> Result<(), String> {
        let mut decoder = JsonDecoder::new(lines, request(&self.scope.schema, ROWS));
        while let Some(decoded) = decoder.decode()? {
            let ((batch, rows), bad) = batch_of(&self.scope.schema, decoded, self.row);
            self.row += rows;
            self.rejected += bad.len() as u64;
            self.take("", &batch, &|row| ("row", row.into()))?;
        }
        Ok(())
    }

    /// Has both judge the last events in the topics that are read.
    #[cfg(feature = "kafka")]
    fn read_topics(&mut self, config: &kafka::Config, shared: &Shared, most: u64) -> Result<(), String> {
        let schema = Arc::clone(&self.scope.schema);
        let rejected = super::kafka::recent(config, shared, &schema, most, |taken| {
            self.take(&taken.partition.to_string(), &taken.batch, &|row| ("source", taken.place(row)))
        })?;
        self.rejected += rejected;
        Ok(())
    }

    #[cfg(not(feature = "kafka"))]
    fn read_topics(&mut self, _: &kafka::Config, _: &Shared, _: u64) -> Result<(), String> {
        Err("this program was built without the feature `kafka`".to_owned())
    }

    /// Has both judge events of one source; `place` says where an event is, by its number.
    fn take(&mut self, source: &str, batch: &EventBatch, place: &Place) -> Result<(), String> {
        let streams = self.streams.entry(source.to_owned()).or_insert_with(|| [(); 2].map(|()| Stream::new(self.settings.clone())));
        let mut judged = Vec::with_capacity(2);
        for (side, stream) in self.sides.iter().zip(streams) {
            judged.push(stream.take(batch, &side.snapshot).map_err(|broken| broken.to_string())?);
        }
        if let [before, after] = &judged[..] {
            (0..before.batch.rows()).for_each(|row| self.compare([before, after], row, place));
            for (side, judged) in self.sides.iter_mut().zip([before, after]) {
                let is_told =
                    |rule: RuleId| self.scope.tenant.as_deref().is_none_or(|tenant| tenant_of(&side.snapshot, rule) == Some(tenant));
                side.findings += judged.findings.iter().filter(|found| is_told(found.rule)).count() as u64;
            }
        }
        Ok(())
    }

    fn compare(&mut self, judged: [&Judged; 2], row: usize, place: &Place) {
        let batch = &judged[0].batch;
        if !is_of(&self.scope, judged[0], row) {
            return;
        }
        let schema = Arc::clone(&self.scope.schema);
        let label = self.scope.label.and_then(|field| match batch.value(&schema, field, row) {
            Cell::Bool(truth) => Some(truth),
            Cell::Int(int) => Some(int != 0),
            Cell::UInt(uint) => Some(uint != 0),
            _ => None,
        });
        self.all.add(label);
        let [before, after] = [0, 1].map(|nth| {
            let decisions = &judged[nth].decisions;
            let mut live = self.places(nth, &decisions.rules, row);
            let shadow = self.places(nth, &decisions.shadow_rules, row);
            let side = &mut self.sides[nth];
            live.iter().chain(&shadow).for_each(|place| side.rules.entry(*place).or_default().add(label));
            if !live.is_empty() {
                side.hit.add(label);
            }
            if decisions.actions[row] > 0 {
                side.flagged.add(label);
            }
            live.sort_unstable();
            (decisions.actions[row], decisions.scores[row], live)
        });
        if before == after {
            return;
        }
        self.changed += 1;
        if before.0 != after.0 {
            *self.actions.entry([before.0, after.0]).or_default() += 1;
        }
        if self.samples.len() < SAMPLES {
            let told = [0, 1].map(|nth| {
                let mut text = Vec::new();
                Told::new(judged[nth], &self.sides[nth].snapshot, &self.scope.sensitive).write(&mut text, "", row, |_| ());
                let mut told: Value = serde_json::from_slice(&text).unwrap_or_default();
                let members = told.as_object_mut();
                members.into_iter().for_each(|told| ["decision_id", "generation", "id"].iter().for_each(|key| _ = told.remove(*key)));
                told
            });
            let [before, after] = told;
            let (member, place) = place(batch.row_number(row));
            let mut sample = Map::from_iter([(member.to_owned(), place)]);
            if let Some(id) = schema.id {
                sample.insert("id".to_owned(), self.scope.sensitive.told(id, cell_json(&batch.value(&schema, id, row))));
            }
            sample.extend([("before".to_owned(), before), ("after".to_owned(), after)]);
            self.samples.push(Value::Object(sample));
        }
    }

    /// The places of the names of the rules that match a row.
    fn places(&mut self, nth: usize, hits: &Hits, row: usize) -> Vec<usize> {
        let Self { sides, names, places, .. } = self;
        let Side { names: known, snapshot, .. } = &mut sides[nth];
        let mut place = |rule: &RuleId| {
            *known.entry(*rule).or_insert_with(|| {
                let name = snapshot.id(*rule);
                *places.entry(name.to_owned()).or_insert_with(|| {
                    names.push(name.to_owned());
                    names.len() - 1
                })
            })
        };
        hits.row(row).iter().map(&mut place).collect()
    }

    fn told(self) -> Value {
        let (all, with_label) = (self.all, self.scope.label.is_some());
        let both = |of: &dyn Fn(&Side) -> Tally| {
            let [before, after] = [0, 1].map(|nth| of(&self.sides[nth]).told(all, with_label));
            json!({"before": before, "after": after})
        };
        let tally = |side: &Side, place: usize| side.rules.get(&place).copied().unwrap_or_default();
        let differs = |place: usize| tally(&self.sides[0], place) != tally(&self.sides[1], place);
        let mut rules: Vec<usize> =
            (0..self.names.len()).filter(|place| differs(*place) || self.names[*place].starts_with(&self.scope.prefix)).collect();
        let weight = |place: usize| tally(&self.sides[0], place).events.abs_diff(tally(&self.sides[1], place).events);
        rules.sort_by(|one, other| weight(*other).cmp(&weight(*one)).then_with(|| self.names[*one].cmp(&self.names[*other])));
        let left_out = rules.len().saturating_sub(RULES);
        rules.truncate(RULES);
        let rule = |place: usize| {
            let mut told = both(&|side| tally(side, place));
            told["rule"] = self.names[place].as_str().into();
            told
        };
        let action = |(action, events): (&[u8; 2], &u64)| {
            let [from, to] = action.map(|action| ACTIONS[usize::from(action)]);
            json!({"from": from, "to": to, "events": events})
        };
        json!({
            "summary": format!("{} of {} decisions change", grouped(self.changed), grouped(all.events)),
            "generations": {"before": **self.sides[0].snapshot.generation(), "after": **self.sides[1].snapshot.generation()},
            "state": "from nothing: windows and patterns have seen these events and no earlier ones",
            "events": all.events,
            "rejected": self.rejected,
            "labelled": all.labelled,
            "to_catch": all.caught,
            "changed": self.changed,
            "actions": self.actions.iter().map(action).collect::<Vec<_>>(),
            "hit": both(&|side| side.hit),
            "flagged": both(&|side| side.flagged),
            "findings": {"before": self.sides[0].findings, "after": self.sides[1].findings},
            "rules": rules.into_iter().map(rule).collect::<Vec<_>>(),
            "rules_left_out": left_out,
            "samples": self.samples,
        })
    }
}

/// Whether a row is told of.
fn is_of(scope: &Scope, judged: &Judged, row: usize) -> bool {
    let (Some(tenant), Some(field)) = (&scope.tenant, scope.schema.tenant) else { return scope.tenant.is_none() };
    matches!(judged.batch.value(&scope.schema, field, row), Cell::Text(name) if *name == **tenant)
}

/// Whose a pattern is.
fn tenant_of(snapshot: &Snapshot, rule: RuleId) -> Option<&str> {
    let artifact = snapshot.base();
    artifact.manifest().tenants.get(artifact.rule(rule).tenant as usize).map(String::as_str)
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

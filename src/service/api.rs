//! HTTP: routes, who may call them, and what they answer. `openapi.json` beside this file says the same for machines.

use super::auth::{Act, Key, Role};
use super::core::{Running, Service, now};
use super::deploy::status;
use super::preview::{Events, Origin, Trial};
use super::problem::{self, Problem};
use super::queue::Refusal;
use super::registry::{ALL, Active, Actor, Scheduled, Tenant, TenantLimits, Version};
use super::scorer::{Answer, Input, Reply, Request as ScoreRequest};
use super::sources::{File, ListEdit};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{SemaphorePermit, oneshot};

/// What the routes say of themselves.
const OPENAPI: &str = include_str!("openapi.json");

/// Events of one request.
const EVENTS_MAX: usize = 100_000;

/// Entries of a list that are told at once.
const LISTED_MAX: usize = 1000;

/// Bytes of a name of a tenant, a rule set, a key.
const NAME_BYTES: usize = 64;

/// Routes for everyone, at any time.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/v1/openapi.json"];

type Handle = State<Arc<Service>>;
type Answered<T = Json<Value>> = Result<T, Problem>;

/// All routes, as the document about them lists them.
fn routes(push_bytes: usize) -> Vec<(&'static str, MethodRouter<Arc<Service>>)> {
    vec![
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/v1/openapi.json", get(openapi)),
        ("/v1/status", get(service_status)),
        ("/v1/score", post(score)),
        ("/v1/findings", get(findings)),
        ("/v1/schema", get(schema).put(set_schema)),
        ("/v1/audit", get(audit)),
        ("/v1/keys", get(keys).post(add_key)),
        ("/v1/keys/{id}", delete(remove_key)),
        ("/v1/tenants", get(tenants)),
        ("/v1/tenants/{tenant}", put(put_tenant).patch(limit_tenant).delete(remove_tenant)),
        ("/v1/tenants/{tenant}/rule-sets", get(rule_sets)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/versions", get(versions).post(push).layer(DefaultBodyLimit::max(push_bytes))),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/versions/{version}/preview", post(preview).layer(DefaultBodyLimit::max(push_bytes))),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/versions/{version}/files", get(files)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/lists/{list}", get(list).patch(edit_list)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/schedule", get(schedule).delete(unschedule)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/live", put(activate).delete(deactivate)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/rollback", post(rollback)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/shadows/{version}", put(shadow).delete(remove_shadow)),
        ("/v1/tenants/{tenant}/rule-sets/{rule_set}/rules/{rule}", patch(switch)),
    ]
}

/// The routes of a process.
pub fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new();
    for (path, handlers) in routes(service.config.http.push_bytes_max) {
        router = router.route(path, handlers.fallback(wrong_method));
    }
    router
        .fallback(async || Problem::not_found("such route; /v1/openapi.json lists them"))
        .layer(DefaultBodyLimit::max(service.config.http.body_bytes_max))
        .layer(middleware::from_fn_with_state(Arc::clone(service), measured))
        .with_state(Arc::clone(service))
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "not allowed",
        "the route does not take this method; /v1/openapi.json lists those that it takes",
    )
}

async fn measured(State(service): Handle, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = match admitted(&service, request.uri().path(), request.headers(), begun).await {
        Ok(_place) => told(next.run(request).await).await,
        Err(problem) => problem.into_response(),
    };
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    service.metrics.request(route, response.status().as_u16(), begun.elapsed());
    response
}

/// Whether a request is looked at, with its place among those that are: strangers, and who asks too often, are refused before anything of a body is read.
pub(super) async fn admitted<'s>(
    service: &'s Service,
    path: &str,
    headers: &HeaderMap,
    now: Instant,
) -> Answered<Option<SemaphorePermit<'s>>> {
    if OPEN.contains(&path) {
        return Ok(None);
    }
    if let Some((jwt, token)) = service.jwt.as_ref().zip(shown(headers)) {
        jwt.refresh(token, now).await;
    }
    let (key, limits) = (identified(service, headers)?, &service.config.limits);
    service
        .shared
        .limits
        .request(&key.id, now)
        .map_err(|wait| Problem::too_many(format!("a key may send {} requests a second", limits.requests_per_second), wait))?;
    let place = service.shared.limits.enter().ok_or_else(|| {
        Problem::too_many(format!("{} requests are being answered already", limits.requests_in_flight), Duration::from_secs(1))
    });
    place.map(Some)
}

/// What the framework refuses (a path, a body that is too long) is told as a problem, too.
async fn told(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == problem::KIND);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    // What it says of it is one line.
    let detail = axum::body::to_bytes(response.into_body(), 4096).await.unwrap_or_default();
    let title = if status == StatusCode::PAYLOAD_TOO_LARGE { "too large" } else { "the request is not understood" };
    Problem::new(status, title, String::from_utf8_lossy(&detail)).into_response()
}

/// The key or token that a request shows.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    bearer.or_else(|| text(HeaderName::from_static("x-api-key"))).map(str::trim)
}

/// Who calls.
fn identified(service: &Service, headers: &HeaderMap) -> Answered<Key> {
    let unknown = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "who calls is not known", detail);
    let shown = shown(headers).ok_or_else(|| unknown("send a key: `Authorization: Bearer dcep_…`"))?;
    service.caller(shown).map_err(|why| unknown(&why))
}

/// Who calls, if they may do this: `tenant` is whose things it is about, or none where it is about everyone's.
pub(super) fn caller(service: &Service, headers: &HeaderMap, act: Act, tenant: Option<&str>) -> Answered<Key> {
    let key = identified(service, headers)?;
    permitted(&key, act, tenant)?;
    Ok(key)
}

/// Whether a key is for this.
fn permitted(key: &Key, act: Act, tenant: Option<&str>) -> Answered<()> {
    let forbidden = |detail: String| Problem::new(StatusCode::FORBIDDEN, "not allowed", detail);
    if !key.role.may(act) {
        return Err(forbidden(format!("a key of the role `{}` may not do this", key.role.name())));
    }
    match (tenant, &key.tenant) {
        (Some(tenant), Some(own)) if tenant != own => Err(forbidden(format!("the key is for the tenant `{own}` alone"))),
        (None, Some(own)) if act != Act::Score && act != Act::View => Err(forbidden(format!("the key is for the tenant `{own}` alone"))),
        _ => Ok(()),
    }
}

fn actor(key: &Key) -> Actor {
    Actor { name: format!("{} ({})", key.name, key.id), now: now() }
}

pub(super) fn named(what: &str, name: &str) -> Answered<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_plain) {
        let detail = format!("`{}` is no name of {what}: letters, digits, `-`, `_` and `.`, at most {NAME_BYTES}", name.escape_default());
        return Err(Problem::bad_request(detail));
    }
    Ok(())
}

/// A JSON body, with an error that says what is wrong where.
fn body<T: DeserializeOwned>(bytes: &[u8]) -> Answered<T> {
    serde_json::from_slice(bytes).map_err(|error| Problem::bad_request(format!("the body: {error}")))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(service): Handle) -> Answered<&'static str> {
    let unready = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not ready", detail);
    let ended = service.running().filter(|running| running.scorer.has_ended()).map(|_| "nobody judges events any more".to_owned());
    // What it is may name things of tenants.
    let behind = service.behind().map(|_| "not all that the registry says is in service; the log of the process tells why".to_owned());
    match service.shared.trouble().or(ended).or_else(|| service.trouble()).or(behind) {
        Some(trouble) => Err(unready(trouble)),
        None => Ok("ready\n"),
    }
}

async fn metrics(State(service): Handle, headers: HeaderMap) -> Answered<Response> {
    let key = caller(&service, &headers, Act::View, None)?;
    let waiting = service.running().map_or(0, |running| running.scorer.waiting());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], service.metrics.text(key.tenant.as_deref(), waiting)).into_response())
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn service_status(State(service): Handle, headers: HeaderMap) -> Answered {
    caller(&service, &headers, Act::View, None)?;
    let Some(running) = service.running() else { return Ok(Json(json!({"generation": null, "rules": 0}))) };
    let snapshot = running.live.snapshot();
    let windows = snapshot.base().windows().len();
    Ok(Json(
        json!({"generation": **snapshot.generation(), "rules": snapshot.rules(), "windows": windows, "patterns": snapshot.patterns().count()}),
    ))
}

/// The lines of a body that are not empty, each with its end, and how many there are.
fn lines(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut text = Vec::with_capacity(bytes.len() + 1);
    let mut rows = 0;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        text.extend(line);
        text.push(b'\n');
        rows += 1;
    }
    (text, rows)
}

/// Events in a body: their lines, and how many there are; and whether it is one event by itself.
fn events(bytes: &[u8], kind: &str) -> Answered<(Vec<u8>, usize, bool)> {
    let too_many = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", format!("a request brings at most {EVENTS_MAX} events"));
    if kind.starts_with("application/x-ndjson") {
        let (text, rows) = lines(bytes);
        return if rows > EVENTS_MAX { Err(too_many()) } else { Ok((text, rows, false)) };
    }
    let one = |event: &RawValue, text: &mut Vec<u8>| {
        // Line ends stand between the parts of JSON only, never inside of a text.
        text.extend(event.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        text.push(b'\n');
    };
    let mut text = Vec::with_capacity(bytes.len() + 1);
    match bytes.trim_ascii_start().first() {
        Some(b'[') => {
            let events: Vec<Box<RawValue>> = body(bytes)?;
            if events.len() > EVENTS_MAX {
                return Err(too_many());
            }
            events.iter().for_each(|event| one(event, &mut text));
            Ok((text, events.len(), false))
        }
        Some(b'{') => {
            one(&body::<Box<RawValue>>(bytes)?, &mut text);
            Ok((text, 1, true))
        }
        _ => Err(Problem::bad_request("the body is an event, a JSON array of events, or lines of them (application/x-ndjson)")),
    }
}

/// Who judges events of a key, and the tenant that they must be of, where it is for one.
pub(super) fn judging(service: &Service, key: &Key) -> Answered<(Arc<Running>, Option<Arc<str>>)> {
    let running = service.needed()?;
    if key.tenant.is_some() && running.schema.tenant.is_none() {
        return Err(Problem::conflict("the key is for one tenant, and the schema names no field for tenants"));
    }
    Ok((running, key.tenant.as_deref().map(Arc::from)))
}

pub(super) fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "events cannot be judged now", detail)
}

/// Hands over `rows` events of a key, if it may bring so many; `input` is told where the answer goes, which comes from what is given back.
pub(super) fn submit<T>(
    service: &Service,
    running: &Running,
    key: &Key,
    rows: usize,
    tenant: Option<Arc<str>>,
    input: impl FnOnce(Reply<T>) -> Input,
) -> Answered<oneshot::Receiver<Result<T, String>>> {
    if let Some(tenant) = &key.tenant {
        let counted = service.shared.limits.events(tenant, rows as u64, Instant::now());
        counted.map_err(|(detail, wait)| Problem::too_many(detail, wait))?;
    }
    let (reply, answered) = oneshot::channel();
    running.scorer.take(ScoreRequest { input: input(reply), rows, tenant }).map_err(|refusal| match refusal {
        Refusal::Overloaded => unavailable("too many requests wait; try again"),
        Refusal::Ended => unavailable(service.shared.trouble().unwrap_or_else(|| "the process ends".to_owned())),
    })?;
    Ok(answered)
}

async fn score(State(service): Handle, headers: HeaderMap, bytes: Bytes) -> Answered<Response> {
    let key = caller(&service, &headers, Act::Score, None)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (mut lines, rows, alone) = events(&bytes, kind)?;
    let (running, tenant) = judging(&service, &key)?;
    if let Some((tenant, field)) = tenant.as_deref().zip(running.schema.tenant) {
        lines = with_tenant(&lines, &running.schema.field(field).name, tenant);
    }
    if rows == 0 {
        return Ok(json_text(b"{\"results\":[]}".to_vec()));
    }
    let answered = submit(&service, &running, &key, rows, tenant, |reply| Input::Lines(lines, reply))?;
    let answers = answered.await.map_err(|_| unavailable("the process ends"))?.map_err(unavailable)?;
    let mut results = answers.into_iter().map(|answer| match answer {
        Answer::Judged(answer) => Ok(answer),
        Answer::Rejected(reason) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the event cannot be judged", reason)),
        Answer::Limited(reason, wait) => Err(Problem::too_many(reason, wait)),
    });
    if alone {
        return match results.next() {
            Some(answer) => answer.map(json_text),
            None => Err(Problem::internal(&"an event without an answer")),
        };
    }
    let mut text = b"{\"results\":[".to_vec();
    for (nth, answer) in results.enumerate() {
        if nth > 0 {
            text.push(b',');
        }
        text.extend(answer.unwrap_or_else(|problem| json!({"error": problem.detail}).to_string().into_bytes()));
    }
    text.extend(b"]}");
    Ok(json_text(text))
}

/// A body that is JSON already.
fn json_text(text: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Lines whose events name the tenant first; one that an event names itself comes later, and counts.
fn with_tenant(lines: &[u8], field: &str, tenant: &str) -> Vec<u8> {
    let given = format!("{}:{}", Value::from(field), Value::from(tenant));
    let mut text = Vec::with_capacity(lines.len() + lines.len() / 8);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let Some(rest) = line.trim_ascii_start().strip_prefix(b"{") else {
            text.extend(line);
            continue;
        };
        text.push(b'{');
        text.extend(given.as_bytes());
        if rest.trim_ascii_start().first() != Some(&b'}') {
            text.push(b',');
        }
        text.extend(rest);
    }
    text
}

#[derive(Deserialize)]
struct Listing {
    limit: Option<usize>,
    after: Option<i64>,
}

impl Listing {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).min(LISTED_MAX)
    }
}

type Listed = Result<Query<Listing>, axum::extract::rejection::QueryRejection>;

fn listing(query: Listed) -> Answered<Listing> {
    query.map(|Query(listing)| listing).map_err(|rejection| Problem::bad_request(rejection.body_text()))
}

async fn findings(State(service): Handle, headers: HeaderMap, query: Listed) -> Answered {
    let (key, listing) = (caller(&service, &headers, Act::View, None)?, listing(query)?);
    Ok(Json(json!({"findings": service.shared.findings(key.tenant.as_deref(), listing.limit())})))
}

async fn schema(State(service): Handle, headers: HeaderMap) -> Answered<Response> {
    caller(&service, &headers, Act::View, None)?;
    let running = service.running().ok_or_else(|| Problem::not_found("schema yet"))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], running.schema.to_yaml()).into_response())
}

async fn set_schema(State(service): Handle, headers: HeaderMap, bytes: Bytes) -> Answered {
    let key = caller(&service, &headers, Act::Manage, None)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::bad_request("the schema is not UTF-8"))?;
    service.set_schema(text, &actor(&key)).await?;
    Ok(Json(json!({"set": true})))
}

async fn audit(State(service): Handle, headers: HeaderMap, query: Listed) -> Answered {
    let (key, listing) = (caller(&service, &headers, Act::View, None)?, listing(query)?);
    let entries = service.registry.audit(listing.after.unwrap_or(0), listing.limit() as i64, key.tenant.as_deref()).await?;
    Ok(Json(json!({"entries": entries})))
}

fn key_json(key: &Key) -> Value {
    json!({"id": key.id, "name": key.name, "role": key.role.name(), "tenant": key.tenant, "created": key.created})
}

async fn keys(State(service): Handle, headers: HeaderMap) -> Answered {
    let own = caller(&service, &headers, Act::View, None)?.tenant;
    let keys = service.registry.keys().await?;
    let seen = keys.iter().filter(|key| own.is_none() || key.tenant == own);
    Ok(Json(json!({"keys": seen.map(key_json).collect::<Vec<_>>()})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    role: String,
    tenant: Option<String>,
}

async fn add_key(State(service): Handle, headers: HeaderMap, bytes: Bytes) -> Answered<(StatusCode, Json<Value>)> {
    // Who calls is asked first: a stranger learns nothing of what a body should be.
    let key = caller(&service, &headers, Act::View, None)?;
    let new: NewKey = body(&bytes)?;
    permitted(&key, Act::Manage, new.tenant.as_deref())?;
    named("a key", &new.name)?;
    new.tenant.iter().try_for_each(|tenant| named("a tenant", tenant))?;
    let roles = Role::ALL.map(Role::name).join(", ");
    let role = Role::parse(&new.role).ok_or_else(|| Problem::bad_request(format!("there is no role `{}`; roles: {roles}", new.role)))?;
    let (added, shown) = service.add_key(&new.name, role, new.tenant.as_deref(), &actor(&key)).await?;
    let mut told = key_json(&added);
    told["key"] = shown.into();
    Ok((StatusCode::CREATED, Json(told)))
}

async fn remove_key(State(service): Handle, headers: HeaderMap, Path(id): Path<String>) -> Answered<StatusCode> {
    let key = caller(&service, &headers, Act::View, None)?;
    let keys = service.registry.keys().await?;
    let found = keys.iter().find(|key| key.id == id).ok_or_else(|| Problem::not_found("such key"))?;
    permitted(&key, Act::Manage, found.tenant.as_deref())?;
    let admins = keys.iter().filter(|key| key.role == Role::Admin && key.tenant.is_none()).count();
    if found.role == Role::Admin && found.tenant.is_none() && admins == 1 {
        return Err(Problem::conflict("this is the last key that may manage everything; add another one first"));
    }
    let mut edit = service.registry.edit().await?;
    edit.remove_key(&id).await?;
    edit.log(&actor(&key), "key.remove", found.tenant.as_deref().unwrap_or(ALL), &json!({"key": id})).await?;
    edit.commit().await?;
    service.follow().await;
    Ok(StatusCode::NO_CONTENT)
}

async fn tenants(State(service): Handle, headers: HeaderMap) -> Answered {
    let own = caller(&service, &headers, Act::View, None)?.tenant;
    let tenants = service.registry.tenants().await?;
    let seen = tenants.iter().filter(|tenant| own.as_ref().is_none_or(|own| *own == tenant.name));
    Ok(Json(json!({"tenants": seen.map(|tenant| tenant_json(&service, tenant)).collect::<Vec<_>>()})))
}

fn tenant_json(service: &Service, tenant: &Tenant) -> Value {
    let Tenant { name, suspended, created } = tenant;
    json!({"name": name, "suspended": suspended, "created": created, "limits": service.shared.limits.of(name)})
}

/// Limits of a tenant. What is not named stays as it is; null: what is configured for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsPatch {
    #[serde(default, deserialize_with = "named_limit")]
    events_per_second: Option<Option<u32>>,
    #[serde(default, deserialize_with = "named_limit")]
    rules_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "named_limit")]
    list_entries_max: Option<Option<u32>>,
}

fn named_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

async fn limit_tenant(State(service): Handle, headers: HeaderMap, Path(tenant): Path<String>, bytes: Bytes) -> Answered {
    let key = caller(&service, &headers, Act::Manage, None)?;
    let patch: LimitsPatch = body(&bytes)?;
    let tenants = service.registry.tenants().await?;
    let known = tenants.iter().find(|known| known.name == tenant).ok_or_else(|| Problem::not_found("such tenant"))?;
    let before = service.registry.tenant_limits().await?.remove(&tenant).unwrap_or_default();
    let limits = TenantLimits {
        events_per_second: patch.events_per_second.unwrap_or(before.events_per_second),
        rules_max: patch.rules_max.unwrap_or(before.rules_max),
        list_entries_max: patch.list_entries_max.unwrap_or(before.list_entries_max),
    };
    service.put_tenant_limits(&tenant, &limits, &actor(&key)).await?;
    Ok(Json(tenant_json(&service, known)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantSettings {
    #[serde(default)]
    suspended: bool,
}

async fn put_tenant(State(service): Handle, headers: HeaderMap, Path(tenant): Path<String>, bytes: Bytes) -> Answered {
    let key = caller(&service, &headers, Act::Manage, None)?;
    named("a tenant", &tenant)?;
    if tenant == ALL {
        return Err(Problem::bad_request(format!("`{ALL}` stands for every tenant")));
    }
    let TenantSettings { suspended } = if bytes.is_empty() { TenantSettings { suspended: false } } else { body(&bytes)? };
    service.put_tenant(&tenant, suspended, &actor(&key)).await?;
    Ok(Json(json!({"name": tenant, "suspended": suspended})))
}

async fn remove_tenant(State(service): Handle, headers: HeaderMap, Path(tenant): Path<String>) -> Answered<StatusCode> {
    let key = caller(&service, &headers, Act::Manage, None)?;
    if !service.registry.tenants().await?.iter().any(|known| known.name == tenant) {
        return Err(Problem::not_found("such tenant"));
    }
    service.remove_tenant(&tenant, &actor(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rule_sets(State(service): Handle, headers: HeaderMap, Path(tenant): Path<String>) -> Answered {
    caller(&service, &headers, Act::View, Some(&tenant))?;
    let active = service.registry.active().await?;
    let mut told = Vec::new();
    for name in service.registry.rule_sets(&tenant).await? {
        let of_set = |shadow: bool| {
            active
                .iter()
                .filter(|one| one.tenant == tenant && one.rule_set == name && one.shadow == shadow)
                .map(|one| one.version)
                .collect::<Vec<_>>()
        };
        told.push(json!({"name": name, "live": of_set(false).first(), "shadows": of_set(true)}));
    }
    Ok(Json(json!({"rule_sets": told})))
}

fn version_json(version: &Version) -> Value {
    let Version { version, hash, rules, author, note, created, .. } = version;
    json!({"version": version, "hash": hash, "rules": rules, "author": author, "note": note, "created": created})
}

type SetPath = Path<(String, String)>;

async fn versions(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set)): SetPath) -> Answered {
    caller(&service, &headers, Act::View, Some(&tenant))?;
    let versions = service.registry.versions(&tenant, &rule_set).await?;
    Ok(Json(json!({"versions": versions.iter().map(version_json).collect::<Vec<_>>()})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    files: Vec<File>,
    #[serde(default)]
    note: String,
}

async fn push(
    State(service): Handle,
    headers: HeaderMap,
    Path((tenant, rule_set)): SetPath,
    bytes: Bytes,
) -> Answered<(StatusCode, Json<Value>)> {
    let key = caller(&service, &headers, Act::Push, Some(&tenant))?;
    named("a tenant", &tenant)?;
    named("a rule set", &rule_set)?;
    let Push { files, note } = body(&bytes)?;
    let files = files.into_iter().map(File::pushed).collect::<Answered<Vec<_>>>()?;
    let pushed = service.push(&tenant, &rule_set, files, &note, &actor(&key)).await?;
    let mut told = version_json(&pushed.version);
    told["tests"] = pushed.tests.into();
    told["diagnostics"] = json!(pushed.warnings);
    Ok((StatusCode::CREATED, Json(told)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Previewed {
    /// So many of the last events.
    events: Option<u64>,
    /// Where they are.
    from: Option<Origin>,
    /// The field that says which events were to be caught.
    label: Option<String>,
}

async fn preview(
    State(service): Handle,
    headers: HeaderMap,
    Path((tenant, rule_set, version)): Path<(String, String, i64)>,
    query: Result<Query<Previewed>, axum::extract::rejection::QueryRejection>,
    bytes: Bytes,
) -> Answered {
    let key = caller(&service, &headers, Act::Push, Some(&tenant)).or_else(|_| caller(&service, &headers, Act::Operate, Some(&tenant)))?;
    let Query(asked) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (asked, events) = if kind.starts_with("application/x-ndjson") {
        let (mut lines, rows) = lines(&bytes);
        let field = service.running().and_then(|running| running.schema.tenant.map(|field| running.schema.field(field).name.clone()));
        if let Some((tenant, field)) = key.tenant.as_deref().zip(field) {
            lines = with_tenant(&lines, &field, tenant);
        }
        (asked, Events::Lines(lines, rows as u64))
    } else {
        let asked: Previewed = if bytes.is_empty() { asked } else { body(&bytes)? };
        let events = Events::Stored(asked.events, asked.from);
        (asked, events)
    };
    // Of other tenants' events nobody is told who may not see them, and a tenant's rules do nothing to them.
    let own = (tenant != ALL).then(|| tenant.clone());
    let active = Active { tenant, rule_set, version, shadow: false };
    Ok(Json(super::preview::preview(&service, Trial { active, events, label: asked.label, tenant: own }).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Activation {
    version: i64,
    /// When, in RFC 3339; without it now.
    at: Option<String>,
}

fn in_service(active: &Active, generation: &str) -> Json<Value> {
    Json(json!({"version": active.version, "shadow": active.shadow, "generation": generation}))
}

async fn activate(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set)): SetPath, bytes: Bytes) -> Answered {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    let Activation { version, at } = body(&bytes)?;
    let active = Active { tenant, rule_set, version, shadow: false };
    if let Some(at) = at {
        let due = DateTime::parse_from_rfc3339(&at).map_err(|error| {
            let detail = format!("at: `{}` is no time ({error}); write it as 2026-01-31T12:00:00Z", at.escape_default());
            Problem::bad_request(detail)
        })?;
        let scheduled = Scheduled { active, due: due.timestamp_millis(), author: key.name.clone() };
        service.schedule(&scheduled, &actor(&key)).await?;
        return Ok(scheduled_json(&scheduled));
    }
    let generation = service.activate(&active, &actor(&key), "version.activate").await?;
    Ok(in_service(&active, &generation))
}

fn scheduled_json(scheduled: &Scheduled) -> Json<Value> {
    let at = DateTime::from_timestamp_millis(scheduled.due).map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true));
    Json(json!({"version": scheduled.active.version, "at": at, "author": scheduled.author}))
}

async fn schedule(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set)): SetPath) -> Answered {
    caller(&service, &headers, Act::View, Some(&tenant))?;
    let all = service.registry.scheduled(i64::MAX).await?;
    let of_set = all.iter().find(|one| one.active.tenant == tenant && one.active.rule_set == rule_set);
    of_set.map(scheduled_json).ok_or_else(|| Problem::not_found(&format!("scheduled version of {tenant}/{rule_set}")))
}

async fn unschedule(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set)): SetPath) -> Answered<StatusCode> {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    service.unschedule(&tenant, &rule_set, &actor(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn files(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set, version)): Path<(String, String, i64)>) -> Answered {
    caller(&service, &headers, Act::View, Some(&tenant))?;
    Ok(Json(json!(service.sources(&tenant, &rule_set, version).await?)))
}

type ListPath = Path<(String, String, String)>;

async fn list(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set, list)): ListPath, query: Listed) -> Answered {
    caller(&service, &headers, Act::View, Some(&tenant))?;
    let listing = listing(query)?;
    let (version, entries) = service.list(&tenant, &rule_set, &list).await?;
    let from = usize::try_from(listing.after.unwrap_or(0)).unwrap_or(0).min(entries.len());
    let shown = &entries[from..(from + listing.limit()).min(entries.len())];
    Ok(Json(json!({"list": list, "version": version, "count": entries.len(), "entries": shown})))
}

async fn edit_list(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set, list)): ListPath, bytes: Bytes) -> Answered {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    let change: ListEdit = body(&bytes)?;
    let (version, generation) = service.edit_list(&tenant, &rule_set, &list, &change, &actor(&key)).await?;
    let mut told = version_json(&version);
    told["generation"] = generation.into();
    Ok(Json(told))
}

async fn deactivate(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set)): SetPath) -> Answered<StatusCode> {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    let active = service.registry.active().await?;
    let live = active.into_iter().find(|one| one.tenant == tenant && one.rule_set == rule_set && !one.shadow);
    let live = live.ok_or_else(|| Problem::not_found(&format!("live version of {tenant}/{rule_set}")))?;
    service.deactivate(&live, &actor(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rollback(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set)): SetPath) -> Answered {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    let before = service.registry.live_before(&tenant, &rule_set).await?;
    let version = before.ok_or_else(|| Problem::conflict(format!("no version of {tenant}/{rule_set} was live before")))?;
    let active = Active { tenant, rule_set, version, shadow: false };
    let generation = service.activate(&active, &actor(&key), "version.rollback").await?;
    Ok(in_service(&active, &generation))
}

async fn shadow(State(service): Handle, headers: HeaderMap, Path((tenant, rule_set, version)): Path<(String, String, i64)>) -> Answered {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    let active = Active { tenant, rule_set, version, shadow: true };
    let generation = service.activate(&active, &actor(&key), "version.shadow").await?;
    Ok(in_service(&active, &generation))
}

async fn remove_shadow(
    State(service): Handle,
    headers: HeaderMap,
    Path((tenant, rule_set, version)): Path<(String, String, i64)>,
) -> Answered<StatusCode> {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    service.deactivate(&Active { tenant, rule_set, version, shadow: true }, &actor(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switching {
    /// live, shadow, off; null: what the version says.
    status: Option<String>,
}

async fn switch(
    State(service): Handle,
    headers: HeaderMap,
    Path((tenant, rule_set, rule)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Answered {
    let key = caller(&service, &headers, Act::Operate, Some(&tenant))?;
    let Switching { status: name } = body(&bytes)?;
    let unknown =
        |name: &str| Problem::bad_request(format!("there is no status `{name}`; live, shadow, off, or null for what the version says"));
    let to = name.as_deref().map(|name| status(name).ok_or_else(|| unknown(name))).transpose()?;
    let generation = service.switch(&tenant, &rule_set, &rule, to, &actor(&key)).await?;
    Ok(Json(json!({"rule": rule, "status": name, "generation": generation})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_lists_the_routes() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let listed: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(listed, routes(1).iter().map(|(path, _)| *path).collect());
    }

    #[test]
    fn bodies_are_events() {
        let read = |text: &str, kind: &str| {
            events(text.as_bytes(), kind).map(|(lines, rows, alone)| (String::from_utf8(lines).unwrap(), rows, alone))
        };
        assert_eq!(read("{\"n\":\n 1}", "").unwrap(), ("{\"n\":  1}\n".to_owned(), 1, true));
        assert_eq!(
            read(" [{\"n\":1},\n{\"t\":\"a\\nb\"}]", "application/json").unwrap(),
            ("{\"n\":1}\n{\"t\":\"a\\nb\"}\n".to_owned(), 2, false)
        );
        assert_eq!(read("{\"n\":1}\n\n {\"n\":2}", "application/x-ndjson").unwrap(), ("{\"n\":1}\n {\"n\":2}\n".to_owned(), 2, false));
        assert_eq!(read("[]", "").unwrap(), (String::new(), 0, false));
        for wrong in ["", "1", "{", "[1", "{\"n\":1} {}", "\u{0}"] {
            assert_eq!(read(wrong, "").unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        let many = format!("[{}0]", "0,".repeat(EVENTS_MAX));
        assert_eq!(read(&many, "").unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn a_key_of_one_tenant_gives_its_name_to_events_without_one() {
        let given = |lines: &str| String::from_utf8(with_tenant(lines.as_bytes(), "t\"", "acme")).unwrap();
        assert_eq!(given("{\"n\":1}\n {}\n"), "{\"t\\\"\":\"acme\",\"n\":1}\n{\"t\\\"\":\"acme\"}\n");
        assert_eq!(given("5\n"), "5\n");
    }

    #[test]
    fn names_are_plain() {
        assert!(["a", "A-b_c.9", &"x".repeat(NAME_BYTES)].into_iter().all(|name| named("x", name).is_ok()));
        assert!(["", "a/b", "a b", "ä", "a@1", &"x".repeat(NAME_BYTES + 1)].into_iter().all(|name| named("x", name).is_err()));
    }
}

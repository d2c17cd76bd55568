//! The API as OpenAPI 3.1: from the handlers themselves, with what holds for all of them, and an example of each.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::server::{ServerBuilder, ServerVariableBuilder};
use utoipa::openapi::{Content, Ref, RefOr, Response, Schema};
use utoipa::{Modify, openapi};

use super::routes;
use super::standing::REASONS;
use crate::protocol::json;
use crate::protocol::problem::{PROBLEM_JSON, ProblemCode};
use crate::protocol::remedy::Remedy;
use crate::relay::ledger::Undelivered;

/// By the operation's id: a request's body, and answers by their status. Written by `tests/vectors/examples.rs`.
const EXAMPLES: &[u8] = include_bytes!("examples.json");

/// Answers that say when to ask again.
const COME_BACK: &[&str] = &["429", "503", "default"];

/// What a call looks like.
#[derive(Deserialize)]
struct Example {
    request: Option<Value>,
    #[serde(default)]
    responses: BTreeMap<String, Value>,
}

/// Who calls.
pub(super) struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let scheme = |typ: &str| {
            let format = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
            SecurityScheme::Http(format.description(Some(format!("An assertion with typ {typ}"))).build())
        };
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("portal", scheme("writeback-portal-assertion+jwt"));
        components.add_security_scheme("agent", scheme("writeback-agent-assertion+jwt"));
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Its examples can't be read.
    #[error("the examples: {0}")]
    Examples(#[from] json::Error),
    /// It can't be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The API as OpenAPI 3.1.
///
/// # Errors
/// If its examples are no JSON, or it can't be written as JSON.
pub fn openapi() -> Result<String, DocumentError> {
    let mut api = routes().into_openapi();
    let mut examples: BTreeMap<String, Example> = json::read(EXAMPLES)?;
    let host = ServerVariableBuilder::new()
        .default_value("relay.example")
        .description(Some("HOST or HOST:PORT of the relay's public_url"));
    let server = ServerBuilder::new().url("https://{host}").description(Some("The relay, at its public_url"));
    api.servers = Some(vec![server.parameter("host", host).build()]);
    for (path, item) in &mut api.paths.paths {
        for call in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            let by_agents = ["/v1/agent/", "/v1/enrollments"].iter().any(|start| path.starts_with(start));
            call.tags = Some(vec![if by_agents { "agent" } else { "portal" }.to_owned()]);
            complete(call);
            if let Some(example) = call.operation_id.as_ref().and_then(|id| examples.remove(id)) {
                show(call, example);
            }
        }
    }
    let schemas = &mut api.components.get_or_insert_default().schemas;
    let codes = ProblemCode::ALL.iter().map(|code| code.as_str());
    say(schemas, ("Problem", "code"), codes, "For programs: one of these, or one that a newer relay knows.");
    let reasons = Undelivered::ALL.iter().map(|reason| reason.as_str());
    let what = "Why it is undeliverable, or expired: one of these, or one that a newer relay knows. What was refused because the \
                agent is unknown, pending or revoked is no_agent.";
    say(schemas, ("CommandView", "reason"), reasons, what);
    let what = "Why not: one of these, or one that a newer relay knows.";
    say(schemas, ("Availability", "reason"), REASONS.into_iter(), what);
    let remedies = Remedy::ALL.iter().filter(|remedy| !remedy.is_about_nodes()).map(|remedy| remedy.as_str());
    let what = "The same as a code, for which the reader has words of its own: one of these, or one that a newer agent knows; absent \
                from older agents.";
    say(schemas, ("PreflightRow", "remedy_code"), remedies, what);
    for schema in schemas.values_mut() {
        let RefOr::T(Schema::Object(object)) = schema else { continue };
        object.properties.values_mut().for_each(never_null);
    }
    Ok(api.to_pretty_json()? + "\n")
}

/// `null` is never "absent" (docs/protocol.md §1): what may be left out is not required, and that says it.
fn never_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let SchemaType::Array(types) = &mut object.schema_type else { return };
            types.retain(|one| *one != Type::Null);
            if let [only] = &types[..] {
                object.schema_type = SchemaType::Type(only.clone());
            }
        }
        RefOr::T(Schema::OneOf(either)) => {
            let is_null = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
            either.items.retain(|item| !is_null(item));
            if let [only] = &either.items[..] {
                *schema = only.clone();
            }
        }
        _ => {}
    }
}

/// What holds for every call.
fn complete(call: &mut Operation) {
    let responses = &mut call.responses.responses;
    responses.insert("default".to_owned(), any_problem().into());
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if COME_BACK.contains(&status.as_str()) {
            let always = if status == "default" { "With 429 and 503: after" } else { "After" };
            let what = format!("{always} so many seconds the same may be asked again");
            response.headers.insert("Retry-After".to_owned(), header(Type::Integer, &what).into());
        }
        if matches!(status.as_str(), "401" | "default") {
            let what = "With 401: Bearer, and what is wrong with it (RFC 6750)";
            response.headers.insert("WWW-Authenticate".to_owned(), header(Type::String, what).into());
        }
        if status == "426" {
            let what = "The version that is taken (RFC 6455 §4.4)";
            response.headers.insert("Sec-WebSocket-Version".to_owned(), header(Type::String, what).into());
        }
    }
    let mut waits = false;
    for parameter in call.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        waits |= parameter.name == "Prefer";
        parameter.schema.iter_mut().for_each(never_null);
    }
    if waits {
        answer(call, &["200", "202"], "Preference-Applied", "What was kept of Prefer (RFC 7240)");
    }
    answer(call, &["202", "504"], "Location", "A path: where to ask what became of the command");
    answer(call, &["200"], "Link", "With rel=\"next\": a path, where the list goes on (RFC 8288)");
    // A call that shows no assertion: what it carries speaks for itself.
    call.security.get_or_insert_default();
}

/// A header of these answers, where the call has it.
fn answer(call: &mut Operation, statuses: &[&str], name: &str, what: &str) {
    let id = call.operation_id.as_deref().unwrap_or_default();
    let has = match name {
        "Location" => id == "submit_command",
        "Link" => id == "list_agents",
        _ => true,
    };
    for status in statuses.iter().filter(|_| has) {
        if let Some(RefOr::T(response)) = call.responses.responses.get_mut(*status) {
            response.headers.insert(name.to_owned(), header(Type::String, what).into());
        }
    }
}

fn header(of: Type, what: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(of)).build();
    HeaderBuilder::new().schema(Some(Schema::Object(schema))).description(Some(what)).build()
}

/// Every call may be refused for what is not its own: the credential, the path, the body, a limit, the store.
fn any_problem() -> Response {
    let body = Content::new(Some(Ref::from_schema_name("Problem")));
    Response::builder()
        .description("Refused, for a reason that is not special to this call; docs/protocol.md §6 has every code")
        .content(PROBLEM_JSON, body)
        .build()
}

/// Puts an example where it belongs.
fn show(call: &mut Operation, example: Example) {
    if let (Some(RefOr::T(body)), Some(request)) = (&mut call.request_body, example.request) {
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                content.example = Some(request.clone());
            }
        }
    }
    for (status, value) in example.responses {
        let Some(RefOr::T(response)) = call.responses.responses.get_mut(&status) else { continue };
        for content in response.content.values_mut() {
            if let RefOr::T(content) = content {
                content.example = Some(value.clone());
            }
        }
    }
}

/// A text that is one of these today, and may be another tomorrow.
fn say<'a>(
    schemas: &mut BTreeMap<String, RefOr<Schema>>,
    (object, member): (&str, &str),
    values: impl Iterator<Item = &'a str>,
    what: &str,
) {
    let Some(RefOr::T(Schema::Object(object))) = schemas.get_mut(object) else { return };
    let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    let known = text().enum_values(Some(values)).build();
    let open = AnyOfBuilder::new().item(known).item(text().build()).description(Some(what)).build();
    object.properties.insert(member.to_owned(), Schema::AnyOf(open).into());
}

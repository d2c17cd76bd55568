//! Spans of OpenTelemetry. Without an exporter ([`otlp`](super::otlp)) there are none, and nothing is spent on them.
//!
//! Names and attributes are those of the OpenTelemetry semantic conventions where there are any, and `writeback.*` else.

use std::borrow::Cow;
use std::fmt::Display;
use std::future::Future;
use std::sync::OnceLock;

pub use opentelemetry::trace::SpanKind as Kind;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use super::trace_context::TraceContext;

/// What spans are made with, once there is somewhere to send them.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

tokio::task_local! {
    /// The span that is worked for: where no argument carries it, down to the directory's connection.
    static HERE: TraceContext;
}

/// From now on there are spans. A second call changes nothing.
pub(super) fn begin(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// What a span is part of.
pub trait Parent {
    /// The caller's span; nothing starts a trace.
    fn context(&self) -> Option<TraceContext>;
}

impl Parent for TraceContext {
    fn context(&self) -> Option<TraceContext> {
        Some(*self)
    }
}

/// A `traceparent`.
impl Parent for str {
    fn context(&self) -> Option<TraceContext> {
        self.parse().ok()
    }
}

/// The span that [`within`] says.
#[derive(Clone, Copy, Debug)]
pub struct Here;

impl Parent for Here {
    fn context(&self) -> Option<TraceContext> {
        HERE.try_with(|context| *context).ok()
    }
}

/// Does this as a part of that span, so that [`Here`] finds it.
pub async fn within<T>(context: TraceContext, work: impl Future<Output = T>) -> T {
    HERE.scope(context, work).await
}

/// What a span is called. Of few different words: what is particular about it stands in its attributes.
pub trait Name {
    /// As text, if there is to be a span.
    fn name(self) -> Cow<'static, str>;
}

impl Name for &'static str {
    fn name(self) -> Cow<'static, str> {
        self.into()
    }
}

impl<F: FnOnce() -> String> Name for F {
    fn name(self) -> Cow<'static, str> {
        self().trim_end().to_owned().into()
    }
}

/// Something that takes time, from when it is made to when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<SdkSpan>>);

impl Span {
    /// Begins one.
    #[must_use]
    pub fn start(name: impl Name, kind: Kind, parent: &(impl Parent + ?Sized)) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let parent = parent.context().map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(SpanContext::new(
                TraceId::from(parent.trace_id),
                SpanId::from(parent.parent_id),
                TraceFlags::new(parent.flags),
                true,
                TraceState::NONE,
            ))
        });
        let span = SpanBuilder::from_name(name.name()).with_kind(kind).start_with_context(tracer, &parent);
        Self(Some(Box::new(span)))
    }

    /// As what is done for it knows it.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?.span_context();
        Some(TraceContext {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            parent_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// The `traceparent` of what is done for it; without a span the caller's, unchanged.
    #[must_use]
    pub fn traceparent(&self, callers: String) -> String {
        self.context().map_or(callers, |context| context.to_string())
    }

    /// Does this as a part of it, so that [`Here`] finds it.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        match self.context() {
            Some(context) => within(context, work).await,
            None => work.await,
        }
    }

    /// Notes an attribute. The value becomes text only if there is a span.
    pub fn set(&mut self, key: &'static str, value: impl Display) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value.to_string()));
        }
    }

    /// Notes a number.
    pub fn number(&mut self, key: &'static str, value: impl Into<i64>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value.into()));
        }
    }

    /// It did not succeed. `kind` is one of few words: it becomes `error.type`.
    pub fn fail(&mut self, kind: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[tokio::test]
    async fn without_an_exporter_there_is_no_span_and_the_callers_trace_goes_on_unchanged() {
        let caller = TraceContext::start(&System);
        let mut span = Span::start("x", Kind::Internal, &caller);
        span.set("key", "value");
        assert_eq!((span.context(), std::mem::size_of::<Span>()), (None, 8));
        assert_eq!(span.traceparent(caller.to_string()), caller.to_string());
        assert_eq!(within(caller, async { Here.context() }).await, Some(caller));
        assert_eq!(Here.context(), None);
    }
}

//! Spans of OpenTelemetry as parents, for programs whose `tracing` subscriber has the layer of `tracing-opentelemetry`.

use super::{Cause, Parent};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The current span of `tracing`, as OpenTelemetry knows it; without one, the current one of OpenTelemetry itself.
pub(super) fn current() -> Option<Parent> {
    let of_tracing = Span::current().context();
    parent(of_tracing.span().span_context()).or_else(|| parent(Context::current().span().span_context()))
}

/// Makes a span that has not begun a child of one of another program.
pub(super) fn set_parent(span: &Span, parent: &Parent) {
    let Cause { trace, span: id, flags, state } = &*parent.0;
    let (trace, id) = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(id.to_be_bytes()));
    // What is not valid is no reason to lose the trace.
    let state = state.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let remote = SpanContext::new(trace, id, TraceFlags::new(*flags), true, state);
    // Without the layer, or if it leaves this span out, there is nothing to do.
    _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

fn parent(span: &SpanContext) -> Option<Parent> {
    let trace = u128::from_be_bytes(span.trace_id().to_bytes());
    let id = u64::from_be_bytes(span.span_id().to_bytes());
    let flags = span.trace_flags().to_u8();
    span.is_valid()
        .then(|| Parent::of(Cause { trace, span: id, flags, state: None }).with_state(&span.trace_state().header()))
}

//! Programs that use OpenTelemetry: a trace goes from the span that publishes to that of the handler, and on.

use leveret::{App, Bus, Events, Meta, PublishError, State, Subscription, Topic};
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

static ORDERS: Topic<u32> = Topic::new("otel.orders");
static BILL: Subscription<u32> = ORDERS.subscription("bill");
static INVOICES: Topic<u32> = Topic::new("otel.invoices");
static MAIL: Subscription<u32> = INVOICES.subscription("mail");

async fn bill(order: u32) -> Result<Events, PublishError> {
    let mut events = Events::default();
    INVOICES.publish(&mut events, &order).await?;
    Ok(events)
}

async fn mail(_invoice: u32, meta: Meta, State(done): State<mpsc::UnboundedSender<Meta>>) {
    done.send(meta).expect("the test waits");
}

fn named<'a>(spans: &'a [SpanData], name: &str, topic: &str) -> &'a SpanData {
    let is_of =
        |span: &&SpanData| span.attributes.iter().any(|it| it.key.as_str() == "topic" && it.value.as_str() == topic);
    let found: Vec<_> = spans.iter().filter(|span| span.name == *name).filter(is_of).collect();
    assert_eq!(found.len(), 1, "{name} {topic}: {spans:#?}");
    found[0]
}

#[tokio::test]
async fn a_trace_goes_from_who_publishes_to_who_handles_and_on() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    // For this thread, on which all of it runs.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let bus = Bus::open("local:").await.expect("it needs nothing");
    let (done, mut handled) = mpsc::unbounded_channel::<Meta>();
    let app = App::new(&bus).state(done).handle(&BILL, bill).handle(&MAIL, mail).start().await.expect("it starts");

    let caller = SpanContext::new(
        TraceId::from(0x4bf92f3577b34da6a3ce929d0e0e4736),
        SpanId::from(0x00f067aa0ba902b7),
        TraceFlags::SAMPLED,
        true,
        "vendor=1".parse::<TraceState>().expect("it is one"),
    );
    let order = tracing::info_span!("order");
    order.set_parent(Context::new().with_remote_span_context(caller.clone())).expect("it has not begun");
    async { ORDERS.publish(&bus, &1).await.expect("published") }.instrument(order).await;
    let patience = Duration::from_secs(10);
    let meta = tokio::time::timeout(patience, handled.recv()).await.expect("it is handled").expect("it is there");
    app.drain().await.expect("it ends");

    let spans = exporter.get_finished_spans().expect("they are kept");
    let order = spans.iter().find(|span| span.name == "order").expect("it has ended");
    let (bill, mail) = (named(&spans, "handle", "otel.orders"), named(&spans, "handle", "otel.invoices"));
    for (span, parent) in [(order, &caller), (bill, &order.span_context), (mail, &bill.span_context)] {
        assert_eq!(span.parent_span_id, parent.span_id(), "{}", span.name);
        assert_eq!(span.span_context.trace_id(), caller.trace_id());
        assert_eq!(span.span_context.trace_state().header(), "vendor=1");
    }
    assert!(bill.parent_span_is_remote && mail.parent_span_is_remote);
    assert_eq!((&bill.span_kind, &mail.span_kind), (&SpanKind::Consumer, &SpanKind::Consumer));
    let trace = meta.trace.expect("it came with the message");
    let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", bill.span_context.span_id());
    assert_eq!((trace.to_string(), trace.state()), (text, Some("vendor=1")));
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_stays_so_and_one_that_was_given_counts() {
    let (exporter, given) = (InMemorySpanExporter::default(), leveret::Parent::new());
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone());
    let provider = provider.with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOff).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let bus = Bus::open("local:").await.expect("it needs nothing");
    let mut invoices = bus.pull(&MAIL, 10).await.expect("it is there");
    let publish = async {
        INVOICES.publish(&bus, &1).await.expect("published");
        INVOICES.publish(&bus, &2).trace(given.clone()).await.expect("published");
    };
    publish.instrument(tracing::info_span!("order")).await;
    let mut traces = Vec::new();
    for _ in 0..2 {
        let invoice = invoices.next().await.expect("no error").expect("it is there");
        traces.push(invoice.meta.trace.clone().expect("it has one"));
        invoice.settle(()).await.expect("settled");
    }
    assert!(traces[0].to_string().ends_with("-00"), "{}", traces[0]);
    assert_eq!(traces[1], given);
    assert!(exporter.get_finished_spans().expect("they are kept").is_empty());
}

//! Requests and replies.

use leveret::testing::TestBus;
use leveret::{App, CallError, Meta, Rpc, State};
use std::time::Duration;

static DOUBLE: Rpc<u64, u64> = Rpc::new("double");

async fn double(number: u64, meta: Meta, State(most): State<u64>) -> Result<u64, String> {
    match (meta.attribute("loud"), number) {
        (Some(_), _) => panic!("aah"),
        (None, number) if number > most => Err(format!("{number} is too large")),
        (None, number) => Ok(number * 2),
    }
}

#[tokio::test]
async fn a_request_gets_the_reply_of_its_handler_or_its_error() {
    let bench = TestBus::new();
    let app = App::new(bench.bus()).state(100u64).respond(&DOUBLE, double).start().await.expect("it starts");
    let calls = (0..50).map(|number| {
        let bus = bench.bus().clone();
        tokio::spawn(async move { DOUBLE.call(&bus, &number).await })
    });
    for (number, call) in (0..).zip(calls.collect::<Vec<_>>()) {
        assert_eq!(call.await.expect("no panic").expect("a reply"), number * 2);
    }
    let error = DOUBLE.call(bench.bus(), &101).await.expect_err("it is refused");
    assert!(matches!(&error, CallError::Failed(text) if text == "101 is too large"), "{error}");
    let error = DOUBLE.call(bench.bus(), &1).attribute("loud", "1").await.expect_err("it panics");
    assert_eq!(error.to_string(), "the handler panicked: aah");
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn without_a_responder_a_call_fails_at_once() {
    let bench = TestBus::new();
    let error = DOUBLE.call(bench.bus(), &1).await.expect_err("nobody is there");
    assert!(matches!(error, CallError::NoResponder("double")), "{error}");
    let app = App::new(bench.bus()).state(100u64).respond(&DOUBLE, double).start().await.expect("it starts");
    DOUBLE.call(bench.bus(), &1).await.expect("a reply");
    app.drain().await.expect("it ends");
    let error = DOUBLE.call(bench.bus(), &1).await.expect_err("nobody is there any more");
    assert!(matches!(error, CallError::NoResponder("double")), "{error}");
}

#[tokio::test]
async fn a_reply_that_does_not_come_or_does_not_decode_is_an_error() {
    static SLOW: Rpc<u64, u64> = Rpc::new("slow");
    static AS_TEXT: Rpc<String, String> = Rpc::new("slow");
    static AS_FLAG: Rpc<u64, bool> = Rpc::new("slow");
    async fn slow(millis: u64) -> Result<u64, String> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }
    let bench = TestBus::new();
    let _app = App::new(bench.bus()).respond(&SLOW, slow).start().await.expect("it starts");
    let wait = Duration::from_millis(20);
    let error = SLOW.call(bench.bus(), &2000).timeout(wait).await.expect_err("it takes too long");
    assert!(matches!(error, CallError::Timeout(waited) if waited == wait), "{error}");
    let error = AS_TEXT.call(bench.bus(), &"x".to_string()).await.expect_err("it is no number");
    assert!(error.to_string().starts_with("the request does not decode: invalid type"), "{error}");
    let error = AS_FLAG.call(bench.bus(), &1).await.expect_err("the reply is a number");
    assert!(matches!(error, CallError::Decode(_)), "{error}");
}

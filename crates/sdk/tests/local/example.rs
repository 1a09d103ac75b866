//! The examples are run, so that they stay true.

use crate::bench::Seen;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

// Their `main` is not called.
#[path = "../../examples/chat.rs"]
#[allow(dead_code)]
mod chat;
#[path = "../../examples/jobs.rs"]
#[allow(dead_code)]
mod jobs;
#[path = "../../examples/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;
#[path = "../../examples/quote.rs"]
#[allow(dead_code)]
mod quote;
#[path = "../../examples/signup.rs"]
#[allow(dead_code)]
mod signup;

#[tokio::test]
async fn the_signup_example_welcomes_and_counts_everybody() {
    let seen = Seen::default();
    let lines = seen.clone();
    let print = move |line: String| {
        let (_, text) = line.split_once("ms  ").expect("each line has a time");
        // Neither ids nor numbers of attempts are the same each time.
        lines.note(text.split(" (").next().and_then(|text| text.split(" at ").next()).unwrap_or(text));
    };
    signup::run("local:", Arc::new(print)).await.expect("it runs");
    let mut lines = seen.take();
    let end = lines.split_off(lines.len() - 3);
    assert_eq!(
        end,
        [
            "dead       cid@localhost: rejected, an address has a dot",
            "redrive    1 after the fix",
            "email      welcomes cid@localhost"
        ]
    );
    lines.sort();
    assert_eq!(
        lines,
        [
            "analytics  counts user 1",
            "analytics  counts user 2",
            "analytics  counts user 3",
            "analytics  counts user 4",
            "email      refuses cid@localhost",
            "email      welcomes ann@example.com",
            "email      welcomes bob@example.com",
            "email      welcomes dan@example.com",
            "signup     has registered ann@example.com",
            "signup     has registered bob@example.com",
            "signup     has registered cid@localhost",
            "signup     has registered dan@example.com",
        ]
    );
}

#[tokio::test]
async fn the_quote_example_asks_who_is_there() {
    let seen = Seen::default();
    let lines = seen.clone();
    quote::run("local:", Arc::new(move |line| lines.note(line))).await.expect("it runs");
    assert_eq!(
        seen.take(),
        [
            "3 x carrot: nobody is there to ask",
            "3 x carrot: 1.05, says the first",
            "2 x hare: 39.80, says the first",
            "1 x fox: there is no article 'fox'",
            "1 x hare: 19.90, says the second",
        ]
    );
}

#[tokio::test]
async fn the_jobs_example_converts_every_video() {
    let seen = Seen::default();
    let lines = seen.clone();
    jobs::run("local:", Arc::new(move |line| lines.note(line))).await.expect("it runs");
    let mut done: Vec<_> = seen.take().into_iter().filter(|line| line.contains("100 %")).collect();
    done.sort();
    let bar = "#".repeat(20);
    assert_eq!(
        done,
        ["burrows.mkv ", "hares.mkv   ", "meadow.mkv  ", "night.mkv   "].map(|video| format!("{video} 100 % {bar}"))
    );
}

#[tokio::test]
async fn the_pipeline_example_counts_every_order_once() {
    let seen = Seen::default();
    let lines = seen.clone();
    pipeline::run("local:", Arc::new(move |line| lines.note(line))).await.expect("it runs");
    assert_eq!(seen.take().last().map(String::as_str), Some("100 orders, 1767.50 so far"));
}

#[tokio::test]
async fn the_chat_example_brings_what_one_says_to_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let (address, (stop, stopped)) = (listener.local_addr().expect("it listens"), oneshot::channel::<()>());
    let serving =
        async { chat::run("local:", listener, async { _ = stopped.await }).await.map_err(|it| it.to_string()) };
    let talking = async {
        let join = || connect_async(format!("ws://{address}/room"));
        let ((mut ann, _), (mut bob, _)) = (join().await.expect("it answers"), join().await.expect("it answers"));
        ann.send(Message::text("hello")).await.expect("it takes that");
        for socket in [&mut ann, &mut bob] {
            let heard = socket.next().await.expect("it goes on").expect("it answers");
            assert_eq!(heard.into_text().expect("a text").as_str(), "hello");
        }
        _ = stop.send(());
    };
    let (served, ()) = tokio::join!(serving, talking);
    served.expect("it runs");
}

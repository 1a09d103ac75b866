//! A chat in the browser. What somebody writes is published to a topic; a broadcast subscription brings it to every program that serves
//! browsers, and each of those to its browsers. Start a second one on another port and the same engine, and they share the room.
//!
//! `cargo run -p leveret --example chat`, then open http://127.0.0.1:8080 twice. For two programs:
//! `BUS_URL='local:?listen=127.0.0.1:5672' cargo run -p leveret --features listen --example chat -- 127.0.0.1:8080`, and
//! `BUS_URL=amqp://127.0.0.1:5672 cargo run -p leveret --example chat -- 127.0.0.1:8081`.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Html;
use axum::routing::get;
use leveret::{App, Bus, State, Subscription, Topic};
use std::future::IntoFuture;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

static CHAT: Topic<String> = Topic::new("chat").max_size(4096);
static ROOM: Subscription<String> = CHAT.subscription("room").broadcast();

const PAGE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Chat</title>
<link rel="icon" href="data:,">
<ul id="said"></ul><form><input id="text" autofocus aria-label="Say something"><button>Say it</button></form>
<script>
const socket = new WebSocket(`ws://${location.host}/room`);
socket.onmessage = event => said.append(Object.assign(document.createElement("li"), { textContent: event.data }));
document.forms[0].onsubmit = event => { event.preventDefault(); socket.send(text.value); text.value = ""; };
</script></html>"#;

/// Brings what was said to the browsers of this program.
async fn hear(text: String, State(browsers): State<broadcast::Sender<String>>) {
    // An error says that there are none.
    _ = browsers.send(text);
}

async fn talk(mut socket: WebSocket, bus: Bus, mut said: broadcast::Receiver<String>) {
    loop {
        let sent = tokio::select! {
            said = said.recv() => match said {
                Ok(text) => socket.send(Message::Text(text.into())).await.is_ok(),
                // A browser that is too slow misses some.
                Err(broadcast::error::RecvError::Lagged(_)) => true,
                Err(broadcast::error::RecvError::Closed) => false,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => CHAT.publish(&bus, &text.to_string()).await.is_ok(),
                Some(Ok(_)) => true,
                Some(Err(_)) | None => false,
            },
        };
        if !sent {
            return;
        }
    }
}

/// Serves browsers until `stop` ends.
pub async fn run(
    url: &str,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(url).await?;
    let (browsers, _) = broadcast::channel(256);
    let app = App::new(&bus).state(browsers.clone()).handle(&ROOM, hear).start().await?;
    let room = {
        let bus = bus.clone();
        move |upgrade: WebSocketUpgrade| {
            let (bus, said) = (bus.clone(), browsers.subscribe());
            async move { upgrade.on_upgrade(move |socket| talk(socket, bus, said)) }
        }
    };
    let router = Router::new().route("/", get(async || Html(PAGE))).route("/room", get(room));
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served?,
        () = stop => {}
    }
    app.drain().await?;
    Ok(bus.close().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("BUS_URL").unwrap_or("local:".to_string());
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_string());
    let listener = TcpListener::bind(&address).await?;
    println!("open http://{} in a browser or two", listener.local_addr()?);
    run(&url, listener, async { _ = tokio::signal::ctrl_c().await }).await
}

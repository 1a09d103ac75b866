//! Request and reply: a shop asks for prices, two programs share the requests, and nobody is asked when nobody is there.
//!
//! `cargo run -p leveret --example quote`

use leveret::{App, Bus, CallError, Rpc, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Request {
    article: String,
    pieces: u32,
}

#[derive(Serialize, Deserialize)]
struct Quote {
    cents: u32,
    by: String,
}

static QUOTE: Rpc<Request, Quote> = Rpc::new("quote");

async fn quote(request: Request, State(name): State<&'static str>) -> Result<Quote, String> {
    let cents = match request.article.as_str() {
        "hare" => 1990,
        "carrot" => 35,
        other => return Err(format!("there is no article '{other}'")),
    };
    Ok(Quote { cents: cents * request.pieces, by: name.to_string() })
}

/// Asks for some prices.
pub async fn run(url: &str, print: Arc<dyn Fn(String) + Send + Sync>) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(url).await?;
    let ask = async |article: &str, pieces| {
        let answer = QUOTE.call(&bus, &Request { article: article.to_string(), pieces }).await;
        print(match answer {
            Ok(Quote { cents, by }) => format!("{pieces} x {article}: {}.{:02}, says {by}", cents / 100, cents % 100),
            Err(CallError::NoResponder(_)) => format!("{pieces} x {article}: nobody is there to ask"),
            Err(error) => format!("{pieces} x {article}: {error}"),
        });
    };
    ask("carrot", 3).await;
    let one = App::new(&bus).state("the first").respond(&QUOTE, quote).start().await?;
    ask("carrot", 3).await;
    ask("hare", 2).await;
    ask("fox", 1).await;
    let two = App::new(&bus).state("the second").respond(&QUOTE, quote).start().await?;
    one.drain().await?;
    ask("hare", 1).await;
    two.drain().await?;
    Ok(bus.close().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("BUS_URL").unwrap_or("local:".to_string());
    run(&url, Arc::new(|line| println!("{line}"))).await
}

//! Requests with a reply.

#[cfg(feature = "asyncapi")]
use crate::asyncapi::{self, MakeSchema, TopicPage};
use crate::bus::Bus;
use crate::codec::Codec;
use crate::driver::{Reply, Work};
use crate::error::{BoxError, Error};
use crate::message::{MessageId, Outgoing};
use crate::name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::IntoFuture;
use std::time::{Duration, SystemTime};

/// How long one waits for a reply, unless a call or an [`Rpc`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that are handled at a time.
const CONCURRENCY: u16 = 16;

/// A request that somebody responds to: one of those that do, with [`App::respond`](crate::App::respond).
///
/// ```
/// use leveret::{App, Bus, Rpc};
///
/// static DOUBLE: Rpc<u64, u64> = Rpc::new("double");
///
/// async fn double(number: u64) -> Result<u64, &'static str> {
///     number.checked_mul(2).ok_or("it is too large")
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let bus = Bus::open("local:").await?;
///     let app = App::new(&bus).respond(&DOUBLE, double).start().await?;
///     assert_eq!(DOUBLE.call(&bus, &21).await?, 42);
///     Ok(app.drain().await?)
/// }
/// ```
///
/// A request is not kept: if whoever responds is gone before the reply, the call fails with its timeout.
pub struct Rpc<Q, R> {
    name: &'static str,
    request: Codec<Q>,
    reply: Codec<R>,
    timeout: Duration,
    concurrency: u16,
    #[cfg(feature = "asyncapi")]
    schemas: Option<(MakeSchema, MakeSchema)>,
}

impl<Q: Serialize + DeserializeOwned, R: Serialize + DeserializeOwned> Rpc<Q, R> {
    /// A request and a reply that are JSON.
    ///
    /// # Panics
    /// As [`Topic::new`](crate::Topic::new).
    pub const fn new(name: &'static str) -> Rpc<Q, R> {
        Rpc::with_codecs(name, Codec::json(), Codec::json())
    }
}

impl<Q, R> Rpc<Q, R> {
    /// A request and a reply with codecs of their own.
    ///
    /// # Panics
    /// As [`Topic::new`](crate::Topic::new).
    ///
    /// ```
    /// use leveret::{Codec, Rpc};
    ///
    /// static THUMBNAIL: Rpc<String, Vec<u8>> = Rpc::with_codecs("thumbnail", Codec::json(), Codec::bytes());
    /// ```
    pub const fn with_codecs(name: &'static str, request: Codec<Q>, reply: Codec<R>) -> Rpc<Q, R> {
        name::check(name, true);
        Rpc {
            name,
            request,
            reply,
            timeout: TIMEOUT,
            concurrency: CONCURRENCY,
            #[cfg(feature = "asyncapi")]
            schemas: None,
        }
    }

    /// How long one waits for a reply, and how long a handler may take: 5 seconds unless this says otherwise.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Rpc<Q, R> {
        self.timeout = timeout;
        self
    }

    /// How many requests are handled at a time, by each program that responds: 16 unless this says otherwise.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub const fn concurrency(mut self, requests: u16) -> Rpc<Q, R> {
        assert!(requests > 0, "at least one request is handled at a time");
        self.concurrency = requests;
        self
    }

    /// The document of an [application](crate::App::asyncapi) says what its requests and replies look like.
    ///
    /// ```
    /// use leveret::Rpc;
    ///
    /// static DOUBLE: Rpc<u64, u64> = Rpc::new("double").schema();
    /// ```
    #[cfg(feature = "asyncapi")]
    #[must_use]
    pub const fn schema(mut self) -> Rpc<Q, R>
    where
        Q: schemars::JsonSchema,
        R: schemars::JsonSchema,
    {
        self.schemas = Some((asyncapi::schema_of::<Q>, asyncapi::schema_of::<R>));
        self
    }

    /// Of its requests, and of its replies.
    #[cfg(feature = "asyncapi")]
    pub(crate) fn pages(&self) -> (TopicPage, TopicPage) {
        let (request, reply) = self.schemas.unzip();
        let page = |content_type, schema| TopicPage { name: self.name, content_type, attributes: None, schema };
        (page(self.request.content_type(), request), page(self.reply.content_type(), reply))
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Sends a request and waits for its reply. Nothing happens before it is awaited.
    pub fn call<'a>(&'a self, bus: &'a Bus, request: &Q) -> Call<'a, Q, R> {
        let body = self.request.encode(request);
        Call { rpc: self, bus, body, timeout: self.timeout, attributes: Vec::new() }
    }

    pub(crate) fn request(&self) -> &Codec<Q> {
        &self.request
    }

    pub(crate) fn reply(&self) -> &Codec<R> {
        &self.reply
    }

    pub(crate) fn limits(&self) -> (u16, Duration) {
        (self.concurrency, self.timeout)
    }
}

impl<Q, R> fmt::Debug for Rpc<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A request on its way: made by [`Rpc::call`], and sent when it is awaited.
///
/// ```
/// use leveret::{Bus, CallError, Rpc};
/// use std::time::Duration;
///
/// static DOUBLE: Rpc<u64, u64> = Rpc::new("double");
///
/// async fn double(bus: &Bus) -> Result<u64, CallError> {
///     DOUBLE.call(bus, &21).timeout(Duration::from_millis(200)).attribute("plan", "pro").await
/// }
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Call<'a, Q, R> {
    rpc: &'a Rpc<Q, R>,
    bus: &'a Bus,
    body: Result<Vec<u8>, BoxError>,
    timeout: Duration,
    attributes: Vec<(String, String)>,
}

impl<Q, R> Call<'_, Q, R> {
    /// Waits so long for the reply.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With an attribute, which whoever responds finds in [`Meta`](crate::Meta).
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push((name.to_string(), value.to_string()));
        self
    }
}

impl<'a, Q: 'static, R: Send + 'static> IntoFuture for Call<'a, Q, R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Work<'a, Result<R, CallError>>;

    fn into_future(self) -> Self::IntoFuture {
        let Call { rpc, bus, body, timeout, attributes } = self;
        Box::pin(async move {
            let request = Outgoing {
                topic: rpc.name,
                exactly_once: false,
                id: MessageId::new(),
                content_type: rpc.request.content_type(),
                body: body.map_err(CallError::Encode)?,
                attributes,
                key: None,
                delay: None,
                published: SystemTime::now(),
                trace: crate::trace::current(),
            };
            match tokio::time::timeout(timeout, bus.request(&request, timeout)).await {
                Err(_) => Err(CallError::Timeout(timeout)),
                Ok(Err(error)) => Err(CallError::Engine(error)),
                Ok(Ok(Reply::NoResponder)) => Err(CallError::NoResponder(rpc.name)),
                Ok(Ok(Reply::Failed(error))) => Err(CallError::Failed(error)),
                Ok(Ok(Reply::Done(body))) => rpc.reply.decode(&body).map_err(CallError::Decode),
            }
        })
    }
}

/// Why a request has no reply.
///
/// ```
/// # use leveret::{Bus, CallError, Rpc};
/// # #[tokio::main]
/// # async fn main() -> leveret::Result<()> {
/// # static DOUBLE: Rpc<u64, u64> = Rpc::new("double");
/// let bus = Bus::open("local:").await?;
/// match DOUBLE.call(&bus, &21).await {
///     Ok(number) => println!("{number}"),
///     Err(CallError::NoResponder(name)) => println!("nobody responds to '{name}'"),
///     Err(error) => println!("{error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The codec refuses the request.
    Encode(BoxError),
    /// Nobody responds to requests of this name.
    NoResponder(&'static str),
    /// No reply has come in time. The request may have been handled or not.
    Timeout(Duration),
    /// Whoever responded has failed, with this error.
    Failed(String),
    /// The codec cannot read the reply.
    Decode(BoxError),
    /// The engine has failed or cannot be reached.
    Engine(Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Encode(error) => write!(f, "the request cannot be encoded: {error}"),
            CallError::NoResponder(name) => write!(f, "nobody responds to '{name}'"),
            CallError::Timeout(timeout) => write!(f, "no reply has come within {timeout:?}"),
            CallError::Failed(error) => f.write_str(error),
            CallError::Decode(error) => write!(f, "the reply does not decode: {error}"),
            CallError::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Encode(error) | CallError::Decode(error) => Some(&**error),
            CallError::Engine(error) => Some(error),
            CallError::NoResponder(_) | CallError::Timeout(_) | CallError::Failed(_) => None,
        }
    }
}

//! What is answered, and why something is refused, in RabbitMQ's codes and words.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use leveret_broker::{ClientError, Error};
use serde_json::{Value, json};

/// What an endpoint gives back.
pub type Answer = Result<Response, Refusal>;

/// Why a request is not fulfilled: a status, a short name of the error and a reason for people.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    error: &'static str,
    /// The reason; of a person's interest.
    pub reason: String,
    /// The client is asked to log in.
    challenge: bool,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<String>) -> Refusal {
        Refusal { status, error, reason: reason.into(), challenge: false }
    }

    /// 400.
    pub fn bad(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 400 with an error of its own.
    pub fn bad_as(error: &'static str, reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, error, reason)
    }

    /// 400: the validation of a policy, parameter or limit; `why` is what RabbitMQ says.
    pub fn invalid(why: impl std::fmt::Display) -> Refusal {
        Refusal::bad(format!("Validation failed\n\n{why}\n"))
    }

    /// 404: what the path names does not exist.
    pub fn missing() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404: what is needed for the request does not exist.
    pub fn not_found(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 401: the user may not do that.
    pub fn not_allowed(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// 401: nobody is logged in, or the login failed.
    pub fn login(reason: impl Into<String>) -> Refusal {
        // The spelling is RabbitMQ's, and differs from the other one.
        Refusal { challenge: true, ..Refusal::new(StatusCode::UNAUTHORIZED, "not_authorized", reason) }
    }

    /// 413.
    pub fn too_large(limit: usize) -> Refusal {
        let reason = format!("the request's body has more than {limit} bytes, which is the limit");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", reason)
    }

    /// 408.
    pub fn too_slow() -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request's body did not arrive in time")
    }

    /// 501: it is known and not built.
    pub fn not_built(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", reason)
    }

    /// 503: it cannot be done now.
    pub fn unavailable(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
    }

    /// The answer that says so.
    pub fn into_response(self) -> Response {
        let mut response = with(self.status, &json!({ "error": self.error, "reason": self.reason }));
        if self.challenge {
            let challenge = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What the broker refuses while it declares, binds or deletes.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error.code {
            403 => Refusal::not_allowed("Access refused."),
            404 => Refusal::not_found(error.text),
            _ => Refusal::bad(error.text),
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        match error {
            ClientError::Refused(error) => error.into(),
            ClientError::LogFailed(_) | ClientError::ShutDown => Refusal::unavailable(error.to_string()),
            other => Refusal::bad(other.to_string()),
        }
    }
}

/// 200 with JSON.
pub fn ok(value: &Value) -> Answer {
    Ok(with(StatusCode::OK, value))
}

/// A status with JSON.
pub fn with(status: StatusCode, value: &Value) -> Response {
    // A value's keys are strings: nothing can fail.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    body(status, "application/json", bytes)
}

/// 201 if it is new, 204 if it was there.
pub fn put(is_new: bool) -> Answer {
    Ok(empty(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
}

/// 204.
pub fn done() -> Answer {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A status without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A status with bytes of this type.
pub fn body(status: StatusCode, content_type: &'static str, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The response with one more header; left out if the value cannot be one.
pub fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

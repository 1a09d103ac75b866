//! Where a broker is, and how it is spoken to: what `amqp://` and `amqps://` say.

use crate::error::{Error, Result};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use std::fmt;
use std::time::Duration;

/// How long an engine that cannot be reached is waited for, unless the URL says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest timeout of a URL, in seconds.
const MAX_TIMEOUT: f64 = 86_400.0;

/// Seconds between heartbeats, unless the URL says otherwise: a connection that has died is noticed after two of them.
const HEARTBEAT: u16 = 15;

/// What a URL says.
#[derive(Clone)]
pub(super) struct Address {
    /// For lapin; it has the password.
    pub(super) uri: AMQPUri,
    /// How long an engine is waited for that does not answer.
    pub(super) timeout: Duration,
}

impl Address {
    /// # Errors
    /// [`Error::Configuration`], whose text repeats nothing that may be secret.
    pub(super) fn parse(url: &str) -> Result<Address> {
        parse(url).map_err(|why| Error::Configuration(format!("an AMQP URL: {why}")))
    }
}

/// Without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority: AMQPAuthority { host, port, .. }, vhost, .. } = &self.uri;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}")?,
            false => write!(f, "{scheme}://{host}:{port}")?,
        }
        if vhost == "/" { Ok(()) } else { write!(f, "/{vhost}") }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse(url: &str) -> Result<Address, String> {
    let (scheme, rest) = url.split_once("://").ok_or("expected 'amqp://user:password@host:port/vhost'")?;
    let scheme = match scheme {
        "amqp" => AMQPScheme::AMQP,
        "amqps" if cfg!(feature = "amqps") => AMQPScheme::AMQPS,
        "amqps" => return Err("this program was built without the feature 'amqps' of the crate leveret".to_string()),
        _ => return Err("the scheme is 'amqp' or 'amqps'".to_string()),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (username, password) = match user {
        "" => ("guest".to_string(), "guest".to_string()),
        user => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decode(name, "the user")?, decode(password, "the password")?)
        }
    };
    let (host, port) = host_and_port(place)?;
    let port = port.unwrap_or_else(|| scheme.default_port());
    let vhost = if vhost.is_empty() { "/".to_string() } else { decode(vhost, "the virtual host")? };
    let (heartbeat, timeout) = parameters(query)?;
    let authority = AMQPAuthority { userinfo: AMQPUserInfo { username, password }, host, port };
    let query = AMQPQueryString { heartbeat: Some(heartbeat), ..AMQPQueryString::default() };
    Ok(Address { uri: AMQPUri { scheme, authority, vhost, query }, timeout })
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("an IPv6 address ends in ']'")?;
            (host, rest.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse().map_err(|_| "a port is a number up to 65535, behind the host and ':'"));
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((decode(host, "the host")?, port.transpose()?))
}

/// The heartbeat in seconds, and the timeout.
fn parameters(query: &str) -> Result<(u16, Duration), String> {
    let (mut heartbeat, mut timeout) = (HEARTBEAT, TIMEOUT);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "heartbeat" => {
                heartbeat = value.parse().map_err(|_| {
                    format!("'heartbeat' is a number of seconds up to 65535, 0 for none, not '{value}'")
                })?;
            }
            "timeout" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= MAX_TIMEOUT);
                let seconds = seconds
                    .ok_or_else(|| format!("'timeout' is a number of seconds, such as 30 or 0.5, not '{value}'"))?;
                timeout = Duration::from_secs_f64(seconds);
            }
            _ => return Err(format!("there is no parameter '{name}'; there are 'heartbeat' and 'timeout'")),
        }
    }
    Ok((heartbeat, timeout))
}

/// Takes percent signs out of a part of a URL.
fn decode(text: &str, what: &str) -> Result<String, String> {
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let value = digit().and_then(|high| Some(high * 16 + digit()?));
                let value = value.and_then(|value| u8::try_from(value).ok());
                value.ok_or_else(|| {
                    format!("{what}: a '%' is followed by two hexadecimal digits, and is itself '%25'")
                })?
            }
            byte => byte,
        };
        out.push(byte);
    }
    String::from_utf8(out).map_err(|_| format!("{what} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> String {
        match Address::parse(url) {
            Ok(address) => {
                let AMQPUserInfo { username, password } = &address.uri.authority.userinfo;
                let heartbeat = address.uri.query.heartbeat.unwrap_or_default();
                format!("{address} {username} {password} {heartbeat} {:?}", address.timeout)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_part_has_a_default() {
        assert_eq!(parsed("amqp://"), "amqp://localhost:5672 guest guest 15 30s");
        assert_eq!(parsed("amqp://h/"), "amqp://h:5672 guest guest 15 30s");
        assert_eq!(
            parsed("amqp://a%40b:c%2Fd@[::1]:5000/v%2Fw?heartbeat=0&timeout=0.5"),
            "amqp://[::1]:5000/v/w a@b c/d 0 500ms"
        );
    }

    #[test]
    fn what_is_not_valid_is_told_without_secrets() {
        let cases = [
            ("amqp:h", "expected 'amqp://user:password@host:port/vhost'"),
            ("amqp://u:secret@h:x", "a port is a number up to 65535, behind the host and ':'"),
            ("amqp://u:secret%zz@h", "the password: a '%' is followed by two hexadecimal digits, and is itself '%25'"),
            ("amqp://h?hartbeat=5", "there is no parameter 'hartbeat'; there are 'heartbeat' and 'timeout'"),
            ("amqp://h?heartbeat=x", "'heartbeat' is a number of seconds up to 65535, 0 for none, not 'x'"),
            ("amqp://h?timeout=0", "'timeout' is a number of seconds, such as 30 or 0.5, not '0'"),
        ];
        for (url, text) in cases {
            assert_eq!(parsed(url), format!("an AMQP URL: {text}"));
        }
        let address = Address::parse("amqp://u:secret@h/v").expect("it is valid");
        assert_eq!(format!("{address} {address:?}"), "amqp://h:5672/v amqp://h:5672/v");
    }
}

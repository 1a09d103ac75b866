//! Who asks, and what they may: RabbitMQ's tags and texts.

use super::answer::Refusal;
use crate::auth::{Access, Door, User};
use crate::server::Server;
use axum::http::{HeaderMap, header};
use base64::Engine;
use std::net::IpAddr;
use std::sync::Arc;

/// The most bytes of a user's name or password in a login.
const LOGIN_MAX: usize = 1024;

/// Who may use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody, without a login.
    Anyone,
    /// Everybody with a tag of management.
    Management,
    /// The same, who may use the virtual host in the path.
    Vhost,
    /// As `Vhost`, with the tag `policymaker` or `administrator`.
    Policymaker,
    /// The tag `policymaker` or `administrator`, without a virtual host.
    Parameters,
    /// The tag `monitoring` or `administrator`.
    Monitoring,
    /// The tag `administrator`.
    Administrator,
}

/// The user behind a request; nobody where no login is needed.
#[derive(Clone, Debug)]
pub struct Caller {
    user: Option<Arc<User>>,
}

impl Caller {
    /// Who has not logged in.
    pub const NOBODY: Caller = Caller { user: None };

    /// Logs in with the request's name and password.
    ///
    /// # Errors
    /// 401 if there are none, or if they are wrong.
    pub async fn login(headers: &HeaderMap, peer: IpAddr, server: &Server) -> Result<Caller, Refusal> {
        let (name, password) = credentials(headers).ok_or_else(|| Refusal::login("Login failed"))?;
        let user = server.users.login(&name, &password, peer, Door::Http).await;
        match user {
            Some(user) => Ok(Caller { user: Some(user) }),
            None => Err(Refusal::login("Login failed")),
        }
    }

    /// The same user as the server knows it now; `None` if it is gone or has another password.
    pub fn again(&self, server: &Server) -> Option<Caller> {
        let user = server.users.user(self.name())?;
        let before = self.user.as_ref()?;
        (user.password().text() == before.password().text()).then_some(Caller { user: Some(user) })
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        self.user.as_ref().map_or("", |user| user.name())
    }

    /// The user's tags.
    pub fn tags(&self) -> &[String] {
        self.user.as_ref().map_or(&[], |user| user.tags())
    }

    fn has_tag(&self, tag: &str) -> bool {
        self.user.as_ref().is_some_and(|user| user.has_tag(tag))
    }

    /// Everything is allowed, and seen.
    pub fn is_administrator(&self) -> bool {
        self.has_tag("administrator")
    }

    /// Everybody's connections are seen, and the node.
    pub fn is_monitor(&self) -> bool {
        self.is_administrator() || self.has_tag("monitoring")
    }

    /// Policies and parameters are.
    pub fn is_policymaker(&self) -> bool {
        self.is_administrator() || self.has_tag("policymaker")
    }

    fn is_manager(&self) -> bool {
        self.is_monitor() || self.is_policymaker() || self.has_tag("management")
    }

    /// Whether the user sees what is in a virtual host.
    pub fn sees(&self, server: &Server, vhost: &str) -> bool {
        self.is_administrator() || self.access(server, vhost).is_some_and(|access| access.is_open())
    }

    /// What the user may do in a virtual host; `None` if the user is gone.
    pub fn access(&self, server: &Server, vhost: &str) -> Option<Access> {
        server.users.access(self.name(), vhost)
    }

    /// Whether an endpoint may be used, with the virtual host of its path if there is one and it exists.
    ///
    /// # Errors
    /// 401 in RabbitMQ's words.
    pub fn check(&self, who: Who, server: &Server, vhost: Option<&str>) -> Result<(), Refusal> {
        let refuse = |reason: &str| Err(Refusal::not_allowed(reason));
        if !self.is_manager() {
            return refuse("Not management user");
        }
        let sees = || vhost.is_none_or(|vhost| self.sees(server, vhost));
        match who {
            Who::Anyone | Who::Management => Ok(()),
            Who::Administrator if !self.is_administrator() => refuse("Not administrator user"),
            Who::Monitoring if !self.is_monitor() => refuse("Not monitor user"),
            Who::Policymaker | Who::Parameters if !self.is_policymaker() => {
                refuse("User not authorised to access object")
            }
            Who::Vhost | Who::Policymaker if !sees() => refuse("User not authorised to access virtual host"),
            _ => Ok(()),
        }
    }
}

/// Name and password of basic authentication.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > 2 * LOGIN_MAX {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let at = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..at].to_vec()).ok()?;
    Some((name, decoded[at + 1..].to_vec()))
}

//! What the ports of one server share.

use crate::auth::{Change, UserError, Users};
use crate::limits::ServerLimits;
use crate::registry::Registry;
use leveret_broker::Broker;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

/// A broker with the users who may use it, and whoever is connected to it: what the ports serve.
#[derive(Debug)]
pub struct Server {
    /// The broker behind the sockets.
    pub broker: Broker,
    /// Who may log in, and what they may do.
    pub users: Users,
    /// The connections that are open.
    pub registry: Arc<Registry>,
    /// Limits of the protocol.
    pub limits: ServerLimits,
    /// When it was made.
    pub started_at: SystemTime,
    listeners: Mutex<Vec<Listening>>,
    /// Sockets that were accepted and are not closed, those in their handshake included.
    pub(crate) connections: AtomicUsize,
}

/// An address where a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// `amqp` or `http`.
    pub protocol: &'static str,
    /// The address.
    pub address: SocketAddr,
}

impl Server {
    /// A server that listens nowhere yet.
    pub fn new(broker: Broker, users: Users, limits: ServerLimits) -> Arc<Server> {
        Arc::new(Server {
            broker,
            users,
            registry: Arc::default(),
            limits,
            started_at: SystemTime::now(),
            listeners: Mutex::default(),
            connections: AtomicUsize::new(0),
        })
    }

    /// Where it listens now.
    pub fn listeners(&self) -> Vec<Listening> {
        self.listeners.lock().clone()
    }

    /// Notes an address for as long as the guard lives.
    pub(crate) fn listens(self: &Arc<Self>, protocol: &'static str, address: SocketAddr) -> ListenGuard {
        let listening = Listening { protocol, address };
        self.listeners.lock().push(listening.clone());
        ListenGuard { server: self.clone(), listening }
    }

    /// Deletes a user, the user's permissions, and closes the user's connections as RabbitMQ does; not
    /// [`Change::happened`] if there is no such user.
    ///
    /// # Errors
    /// If the broker cannot keep it.
    pub fn delete_user(&self, name: &str) -> Result<Change, UserError> {
        let change = self.users.delete_user(name)?;
        if change.happened() {
            self.registry.close_where(&user_deleted(name), |connection| &*connection.user == name);
        }
        Ok(change)
    }

    /// Deletes a virtual host with everything in it, and closes its connections as RabbitMQ does. Await
    /// [`Broker::stored`] to know that it is durable. False if there is none of this name.
    pub fn delete_vhost(&self, name: &str) -> bool {
        let deleted = self.broker.delete_vhost(name);
        if deleted {
            self.users.forget_vhost(name);
        }
        deleted
    }
}

/// What the connections of a user are told who is deleted: RabbitMQ's words.
pub(crate) fn user_deleted(name: &str) -> String {
    format!("user '{name}' is deleted")
}

/// Takes an address from the list when it is dropped.
#[derive(Debug)]
pub(crate) struct ListenGuard {
    server: Arc<Server>,
    listening: Listening,
}

impl Drop for ListenGuard {
    fn drop(&mut self) {
        let mut listeners = self.server.listeners.lock();
        if let Some(at) = listeners.iter().position(|listening| *listening == self.listening) {
            listeners.remove(at);
        }
    }
}

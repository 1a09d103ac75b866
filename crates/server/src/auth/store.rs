//! Where users are kept: in the broker's durable entries, or nowhere.

use super::{Permissions, TopicPermissions, User, UserError};

/// Where users are kept.
pub(super) enum Store {
    /// In this process alone.
    Memory,
}

/// A change of the users: it has taken effect.
#[derive(Debug)]
#[must_use = "it may not be durable yet"]
pub struct Change {
    happened: bool,
}

impl Change {
    pub(super) fn none() -> Change {
        Change { happened: false }
    }

    pub(super) fn telling(self, happened: bool) -> Change {
        Change { happened, ..self }
    }

    pub(super) fn join(&mut self, _other: Change) {}

    /// There is something new, or something is gone; false if only a value was changed, or there was nothing to delete.
    pub fn happened(&self) -> bool {
        self.happened
    }

    /// Waits until it survives a crash.
    ///
    /// # Errors
    /// If the broker's log has failed.
    pub async fn durable(self) -> Result<(), UserError> {
        Ok(())
    }
}

impl Store {
    pub(super) fn set_user(&self, _user: &User) -> Result<Change, UserError> {
        match self {
            Store::Memory => Ok(Change::none()),
        }
    }

    pub(super) fn delete_user(&self, _name: &str) -> Result<Change, UserError> {
        match self {
            Store::Memory => Ok(Change::none()),
        }
    }

    pub(super) fn set_permissions(&self, _user: &str, _vhost: &str, _it: &Permissions) -> Result<Change, UserError> {
        match self {
            Store::Memory => Ok(Change::none()),
        }
    }

    pub(super) fn delete_permissions(&self, _user: &str, _vhost: &str) -> Result<Change, UserError> {
        match self {
            Store::Memory => Ok(Change::none()),
        }
    }

    pub(super) fn set_topic_permissions(
        &self,
        _user: &str,
        _vhost: &str,
        _exchange: &str,
        _it: &TopicPermissions,
    ) -> Result<Change, UserError> {
        match self {
            Store::Memory => Ok(Change::none()),
        }
    }

    pub(super) fn delete_topic_permissions(&self, _user: &str, _vhost: &str, _exchange: &str) -> Result<Change, UserError> {
        match self {
            Store::Memory => Ok(Change::none()),
        }
    }
}

//! What an error of lapin means.

use crate::error::Error;
use lapin::ErrorKind;

/// Why something on a channel has not worked.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The connection or the channel is gone, for a reason that has nothing to do with what was asked for: it can be tried again.
    Lost(String),
    /// The broker does not do it, or this client cannot write it: it would fail again.
    Refused {
        /// The protocol's reply code; 0 without one.
        code: u16,
        text: String,
    },
}

impl Fault {
    /// A refusal without a reply code.
    pub(super) fn refused(text: impl Into<String>) -> Fault {
        Fault::Refused { code: 0, text: text.into() }
    }

    /// There is no such exchange or queue.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Fault::Refused { code: 404, .. })
    }
}

/// For the one who asked.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Lost(text) | Fault::Refused { text, .. } => Error::Engine(text),
        }
    }
}

pub(super) fn of(error: &lapin::Error) -> Fault {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => {
            let (code, text) = (reply.get_id(), reply.get_message().to_string());
            match code {
                // 320: the broker stops, or an operator has closed the connection. 541, 506: it has a problem of its own.
                320 | 506 | 541 => Fault::Lost(text),
                _ => Fault::Refused { code, text },
            }
        }
        ErrorKind::SerialisationError(_) | ErrorKind::AuthProviderError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            Fault::refused(error.to_string())
        }
        _ => Fault::Lost(error.to_string()),
    }
}

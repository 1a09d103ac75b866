//! Answers that wait for the log: confirms and commit-ok.

use super::connection::{ChannelState, Connection, OpenChannel};
use super::parking::Gate;
use leveret_broker::Session;
use leveret_wire::frame;
use leveret_wire::method::{basic, tx};

impl Connection {
    /// Makes everything that was read so far take effect, and confirms what is durable of it.
    pub(super) fn flush(&mut self) {
        self.session.flush();
        let Connection { dirty, channels, session, out, awaiting, gate, .. } = self;
        for number in dirty.drain(..) {
            if let Some(ChannelState::Open(open)) = channels.get_mut(&number) {
                open.is_dirty = false;
                open.broker.apply_settled();
                if open.answer_durable(number, session, out, gate) && !open.is_awaiting {
                    open.is_awaiting = true;
                    awaiting.push(number);
                }
                open.show();
            }
        }
        self.tell_blocked();
    }

    /// Answers what the log has made durable meanwhile.
    pub(super) fn log_advanced(&mut self) {
        let Connection { channels, session, out, awaiting, gate, .. } = self;
        awaiting.retain(|number| match channels.get_mut(number) {
            Some(ChannelState::Open(open)) => {
                open.is_awaiting = open.answer_durable(*number, session, out, gate);
                open.show();
                open.is_awaiting
            }
            _ => false,
        });
    }

    /// Forgets the answers that a channel waits for, because it ends.
    pub(super) fn drop_awaited(&mut self, number: u16, open: &OpenChannel) {
        if open.is_awaiting {
            self.awaiting.retain(|awaiting| *awaiting != number);
        }
        if open.commit_due {
            self.gate.commit_ended();
        }
    }
}

impl OpenChannel {
    /// Writes basic.nack, basic.ack and tx.commit-ok as far as the log allows; true if something has to wait for it still.
    fn answer_durable(&mut self, number: u16, session: &mut Session, out: &mut Vec<u8>, gate: &mut Gate) -> bool {
        for delivery_tag in self.broker.take_refused(session) {
            frame::write_method(out, number, &basic::Nack { delivery_tag, multiple: false, requeue: false }.into());
        }
        if let Some((delivery_tag, multiple)) = self.broker.take_confirm(session) {
            frame::write_method(out, number, &basic::Ack { delivery_tag, multiple }.into());
        }
        if self.commit_due && self.broker.take_committed(session) {
            self.commit_due = false;
            gate.commit_ended();
            frame::write_method(out, number, &tx::CommitOk.into());
        }
        self.commit_due || self.broker.awaits_log()
    }
}

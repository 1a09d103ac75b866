//! Transactions of a channel that messages are delivered on: who settles what meanwhile shares a commit.

use super::fault::Fault;
use super::link::Epoch;
use super::publisher::Parcel;
use super::receipt::{Say, say};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Settlements of one commit, at most.
const TOGETHER: usize = 64;

/// What takes effect together with the end of a message.
pub(super) struct Publish {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// The numbers of those messages of a job that went to no queue.
pub(super) type Unheard = Vec<usize>;

impl Publish {
    pub(super) fn parcel(&self) -> Parcel<'_> {
        let Publish { exchange, key, properties, body } = self;
        Parcel { exchange: exchange.clone(), key: key.clone(), properties: properties.clone(), body }
    }
}

impl From<Parcel<'_>> for Publish {
    fn from(parcel: Parcel<'_>) -> Publish {
        let Parcel { exchange, key, properties, body } = parcel;
        Publish { exchange, key, properties, body: body.to_vec() }
    }
}

/// The settlement of messages, in one way.
pub(super) struct Job {
    pub(super) tags: Vec<u64>,
    pub(super) what: Say,
    pub(super) publish: Vec<Publish>,
    /// Who waits for the commit.
    pub(super) done: Option<oneshot::Sender<Result<Unheard, Fault>>>,
}

/// Asks a channel for transactions, and settles on it until nobody has the sender any more.
pub(super) fn start(channel: Channel, epoch: Arc<Epoch>) -> mpsc::UnboundedSender<Job> {
    let (sender, mut jobs) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut batch = Vec::new();
        let mut outcome = epoch.answer(channel.tx_select()).await.map(|()| Vec::new());
        while jobs.recv_many(&mut batch, TOGETHER).await > 0 {
            if outcome.is_ok() {
                outcome = commit(&channel, &batch).await.map_err(|error| epoch.blame(&error));
            }
            for Job { publish, done, .. } in batch.drain(..) {
                let Some(done) = done else { continue };
                // Whoever does not wait any more does not care.
                _ = done.send(outcome.as_ref().map(|returned| unheard(&publish, returned)).map_err(Fault::clone));
            }
        }
    });
    sender
}

/// Which of these have come back. They are told apart by their ids.
fn unheard(publish: &[Publish], returned: &[BasicReturnMessage]) -> Unheard {
    let is_returned = |publish: &Publish| {
        let is_it = |it: &BasicReturnMessage| it.delivery.properties.message_id() == publish.properties.message_id();
        returned.iter().any(|it| it.delivery.exchange == publish.exchange && is_it(it))
    };
    let numbers = publish.iter().enumerate().filter(|(_, publish)| !returned.is_empty() && is_returned(publish));
    numbers.map(|(number, _)| number).collect()
}

/// Gives what went to no queue.
async fn commit(channel: &Channel, batch: &[Job]) -> lapin::Result<Vec<BasicReturnMessage>> {
    // Lapin writes what is published behind everything else, so it has to be written before the commit is asked for.
    for Publish { exchange, key, properties, body } in batch.iter().flat_map(|job| &job.publish) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        channel.basic_publish(exchange.clone(), key.clone(), options, body, properties.clone()).await?;
    }
    for Job { tags, what, .. } in batch {
        tags.iter().for_each(|tag| say(channel, *tag, *what));
    }
    channel.tx_commit().await?;
    // They come before the commit's answer. There are no confirms that it could wait for.
    channel.wait_for_confirms().await
}

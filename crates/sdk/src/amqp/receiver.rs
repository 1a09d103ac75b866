//! Messages of a queue, for as long as the queue is there: whatever becomes of channels and connections.

use super::fault::Fault;
use super::link::{Epoch, Pause};
use super::message::{incoming, short};
use super::receipt::{AmqpReceipt, Lane, Place};
use super::selection::Selection;
use super::{FAREWELL, Shared, topology};
use crate::contract::requests;
use crate::driver::{Received, Receiver, SubscriptionSpec, Work};
use crate::error::{Error, Result};
use futures_core::Stream;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

/// Messages that are taken at once, at most.
const BATCH: usize = 64;

/// Where messages come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Subscription(SubscriptionSpec),
    Dead(SubscriptionSpec),
    Requests(&'static str),
}

/// What is received on, and what has come and was not handed out.
struct Flow {
    lane: Arc<Lane>,
    /// None before dead letters are waited for.
    consumer: Option<Consumer>,
    fetched: VecDeque<Delivery>,
}

pub(super) struct AmqpReceiver {
    shared: Arc<Shared>,
    source: Source,
    selection: Selection,
    prefetch: u16,
    flow: Option<Flow>,
    pause: Pause,
    /// The broker has ended the consumer: perhaps because its queue was deleted.
    is_cancelled: bool,
}

impl AmqpReceiver {
    /// # Errors
    /// [`Error::Engine`], also if there is no such queue.
    pub(super) async fn open(shared: &Arc<Shared>, source: Source, prefetch: u16) -> Result<AmqpReceiver> {
        let selection = Selection::of(shared.engine, &source)?;
        let (pause, shared) = (Pause::default(), shared.clone());
        let mut receiver = AmqpReceiver { shared, source, selection, prefetch, flow: None, pause, is_cancelled: false };
        let deadline = receiver.shared.publisher.deadline();
        loop {
            match receiver.begin(Some(deadline)).await? {
                Ok(()) => return Ok(receiver),
                Err(Fault::Lost(_)) if Instant::now() < deadline => receiver.pause.wait().await,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Begins to receive on a channel of its own.
    async fn begin(&mut self, first: Option<Instant>) -> Result<Result<(), Fault>> {
        let epoch = self.shared.consuming.up(first).await?;
        let begun = async {
            let channel = epoch.channel().await?;
            let place = self.place()?;
            let engine = self.shared.engine;
            let steps = match &self.source {
                Source::Subscription(spec) if spec.broadcast => topology::broadcast(engine, spec, &place.queue),
                Source::Requests(name) => topology::responder(name),
                // Whoever opens it has declared it. Later, the broker may have lost it.
                Source::Subscription(spec) | Source::Dead(spec) if first.is_none() => {
                    topology::subscription(engine, spec)
                }
                Source::Subscription(_) | Source::Dead(_) => Vec::new(),
            };
            epoch.answer(topology::declare(&channel, &steps)).await?;
            let (consumer, fetched) = match (&self.source, first) {
                (Source::Dead(_), Some(_)) => (None, fetch(&epoch, &channel, &place.from, self.prefetch).await?),
                _ => (Some(epoch.answer(consume(&channel, &place.from, self.prefetch)).await?), VecDeque::new()),
            };
            let lane = Lane::new(self.shared.clone(), epoch.clone(), channel, place);
            Ok(Flow { lane, consumer, fetched })
        };
        Ok(match begun.await {
            Ok(flow) => {
                self.flow = Some(flow);
                Ok(())
            }
            Err(fault) => Err(fault),
        })
    }

    fn place(&self) -> Result<Place, Fault> {
        let retry = match &self.source {
            Source::Subscription(spec) => Some(spec.retry),
            Source::Dead(_) | Source::Requests(_) => None,
        };
        let place = |queue: String, from: String, dead_queue: Option<String>| {
            Ok(Place { from: short(from)?, queue, dead_queue, retry })
        };
        match &self.source {
            Source::Subscription(spec) if spec.broadcast => {
                // Another one each time: one of a connection that the broker has not missed yet belongs to that.
                let queue = format!("{}.{}", spec.queue(), Uuid::now_v7());
                place(queue.clone(), queue, None)
            }
            Source::Subscription(spec) => place(spec.queue(), spec.queue(), Some(spec.dead_queue())),
            Source::Dead(spec) => place(spec.queue(), spec.dead_queue(), Some(spec.dead_queue())),
            Source::Requests(name) => place(requests(name), requests(name), None),
        }
    }

    /// Goes on behind a channel that has ended. False if the queue was deleted.
    async fn go_on(&mut self) -> Result<bool> {
        loop {
            self.pause.wait().await;
            // Everything is declared again before one may publish.
            self.shared.publisher.link().up(None).await?;
            if self.is_cancelled && !self.is_there().await? {
                return Ok(false);
            }
            match self.begin(None).await? {
                Ok(()) => {
                    self.is_cancelled = false;
                    return Ok(true);
                }
                // Deleted at this very moment.
                Err(fault) if fault.is_not_found() && self.is_cancelled => return Ok(false),
                // 404: others are about to declare it. 405: it belongs to a connection that the broker has not missed yet.
                Err(Fault::Lost(why) | Fault::Refused { code: 404 | 405, text: why }) => {
                    tracing::debug!(source = ?self.source, why, "messages cannot be received now");
                }
                Err(Fault::Refused { code: 406, text }) => return Err(Error::Mismatch(text)),
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Whether the queue is there.
    async fn is_there(&self) -> Result<bool> {
        let queue = match &self.source {
            Source::Subscription(spec) if spec.broadcast => return Ok(false),
            Source::Subscription(spec) => spec.queue(),
            Source::Dead(spec) => spec.dead_queue(),
            // It ends with its last consumer, whoever that was.
            Source::Requests(_) => return Ok(true),
        };
        match self.shared.count(&queue).await? {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_not_found() => Ok(false),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Hands a message out, unless the subscription does not want it.
    fn take(&mut self, delivery: Delivery, out: &mut Vec<Received>) {
        let Some(flow) = &self.flow else { return };
        if !self.selection.wants(&delivery.properties) {
            return flow.lane.forget(delivery.delivery_tag);
        }
        let is_dead = matches!(self.source, Source::Dead(_));
        let (message, death) = incoming(self.shared.engine, &delivery, is_dead);
        let receipt = Box::new(AmqpReceipt::new(flow.lane.clone(), delivery, message.meta.attempt));
        out.push(Received { message, death, receipt });
        self.pause = Pause::default();
    }

    /// What is there, if it is more than nothing; `None` if it has ended.
    fn poll(&mut self, context: &mut Context<'_>, out: &mut Vec<Received>) -> Poll<Option<()>> {
        let begin = out.len();
        loop {
            let Some(flow) = &mut self.flow else { return Poll::Ready(None) };
            if !flow.lane.is_open() {
                // What came on it comes again.
                self.flow = None;
                continue;
            }
            if out.len() - begin >= BATCH && flow.fetched.is_empty() {
                return Poll::Ready(Some(()));
            }
            if let Some(delivery) = flow.fetched.pop_front() {
                self.take(delivery, out);
                continue;
            }
            let next = flow.consumer.as_mut().map_or(Poll::Pending, |consumer| Pin::new(consumer).poll_next(context));
            match next {
                Poll::Ready(Some(Ok(delivery))) => self.take(delivery, out),
                Poll::Ready(Some(Err(error))) => {
                    _ = flow.lane.epoch.blame(&error);
                    self.flow = None;
                }
                Poll::Ready(None) => {
                    self.is_cancelled = flow.lane.is_open();
                    self.flow = None;
                }
                Poll::Pending if out.len() > begin => return Poll::Ready(Some(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Receiver for AmqpReceiver {
    fn next<'a>(&'a mut self, out: &'a mut Vec<Received>) -> Work<'a, Result<bool>> {
        Box::pin(async move {
            loop {
                match &mut self.flow {
                    Some(flow) if flow.consumer.is_none() && flow.fetched.is_empty() => {
                        let lane = &flow.lane;
                        let asked = consume(&lane.channel, &lane.place.from, self.prefetch);
                        match lane.epoch.answer(asked).await {
                            Ok(consumer) => flow.consumer = Some(consumer),
                            Err(_) => self.flow = None,
                        }
                    }
                    Some(_) => {
                        if poll_fn(|context| self.poll(context, out)).await.is_some() {
                            return Ok(true);
                        }
                    }
                    None => {
                        if !self.go_on().await? {
                            return Ok(false);
                        }
                    }
                }
            }
        })
    }

    fn try_next(&mut self, out: &mut Vec<Received>) -> Result<()> {
        _ = self.poll(&mut Context::from_waker(Waker::noop()), out);
        Ok(())
    }
}

impl Drop for AmqpReceiver {
    fn drop(&mut self) {
        let Some(Flow { lane, consumer, fetched }) = self.flow.take() else { return };
        // Others may have what nobody has seen. Receipts keep the channel, so it would stay there.
        fetched.iter().for_each(|delivery| lane.give_back(delivery.delivery_tag));
        // Without a runtime, the connection is about to end as well.
        let (Some(consumer), Ok(runtime)) = (consumer, Handle::try_current()) else { return };
        let leaving = self.shared.leaving.clone().try_read_owned();
        runtime.spawn(async move {
            _ = tokio::time::timeout(FAREWELL, leave(&lane, consumer)).await;
            drop(leaving);
        });
    }
}

/// Ends a consumer, and gives back what has come and what is on its way, also of what receipts have just given back: a channel that is
/// closed before counts it as an attempt.
async fn leave(lane: &Lane, mut consumer: Consumer) {
    let mut cancelling = pin!(lane.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()));
    let mut is_cancelled = false;
    poll_fn(|context| {
        // Whether it is answered or not, the consumer ends.
        is_cancelled = is_cancelled || cancelling.as_mut().poll(context).is_ready();
        loop {
            match Pin::new(&mut consumer).poll_next(context) {
                Poll::Ready(Some(Ok(delivery))) => lane.give_back(delivery.delivery_tag),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

async fn consume(channel: &Channel, queue: &ShortString, prefetch: u16) -> lapin::Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    channel.basic_consume(queue.clone(), tag, options, FieldTable::default()).await
}

/// Takes what is in a queue now, at most `max`.
async fn fetch(epoch: &Epoch, channel: &Channel, queue: &ShortString, max: u16) -> Result<VecDeque<Delivery>, Fault> {
    let mut fetched = VecDeque::new();
    while fetched.len() < usize::from(max) {
        let asked = channel.basic_get(queue.clone(), BasicGetOptions::default());
        let Some(got) = epoch.answer(asked).await? else { break };
        fetched.push_back(got.delivery);
    }
    Ok(fetched)
}

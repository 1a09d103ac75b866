//! Executors of every kind: the futures ask nothing of them but to be polled when their waker was called.

use crate::{PATIENCE, Scratch, declare, soon};
use leveret_broker::{Broker, Published};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

/// Many tasks on the thread that runs it; their wakers are called from any.
#[derive(Default)]
struct Executor {
    woken: Mutex<VecDeque<Arc<Task>>>,
    changed: Condvar,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    executor: Arc<Executor>,
    /// Empty when it is done.
    work: Mutex<Option<Work>>,
}

impl Executor {
    fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        Arc::new(Task { executor: self.clone(), work: Mutex::new(Some(Box::pin(work))) }).wake();
    }

    /// Runs until all tasks are done, `tasks` of them.
    fn run(&self, mut tasks: usize) {
        let deadline = Instant::now() + PATIENCE;
        while tasks > 0 {
            let mut woken = lock(&self.woken);
            let Some(task) = woken.pop_front() else {
                let waited = self.changed.wait_timeout(woken, PATIENCE).unwrap_or_else(PoisonError::into_inner);
                assert!(!waited.1.timed_out() && Instant::now() < deadline, "{tasks} tasks were forgotten");
                continue;
            };
            drop(woken);
            tasks -= usize::from(task.poll());
        }
    }
}

impl Task {
    /// Whether it is done now.
    fn poll(self: &Arc<Self>) -> bool {
        let waker = Waker::from(self.clone());
        let mut work = lock(&self.work);
        let Some(running) = work.as_mut() else { return false };
        let done = running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if done {
            *work = None;
        }
        done
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let executor = self.executor.clone();
        lock(&executor.woken).push_back(self);
        executor.changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn many_tasks_share_one_client_on_one_thread() {
    let scratch = Scratch::new("tasks");
    for broker in [scratch.broker(), Broker::in_memory()] {
        let client = broker.connect();
        declare(&client, &["q"]);
        let executor = Arc::new(Executor::default());
        for _ in 0..20 {
            let publisher = client.clone();
            executor.spawn(async move {
                for _ in 0..50 {
                    assert_eq!(publisher.publish("", "q", "x").await, Ok(Published::Routed));
                }
            });
            let mut messages = client.subscribe("q", 3).expect("it is there");
            executor.spawn(async move {
                // As many as are published, shared by equal consumers that leave when they have their part.
                for _ in 0..50 {
                    let message = messages.next().await.expect("the broker runs").expect("the queue is there");
                    message.ack().expect("acknowledged");
                }
            });
        }
        executor.run(40);
        assert_eq!(crate::ready(&client, "q"), 0);
        broker.shut_down().expect("it stops");
    }
}

/// A waker that polls its future at once, wherever it is called: no lock that the future wants may be held then.
struct Inline(Mutex<Option<Work>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        // Not while it is being polled: it looks for itself then.
        let Ok(mut work) = self.0.try_lock() else { return };
        if let Some(running) = work.as_mut()
            && running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *work = None;
        }
    }
}

#[test]
fn a_waker_may_run_its_task_at_once() {
    let client = Broker::in_memory().connect();
    declare(&client, &["in", "out"]);
    let (task, mut messages) = (client.clone(), client.subscribe("in", 1).expect("it is there"));
    let work = async move {
        for _ in 0..3 {
            let message = messages.next().await.expect("the broker runs").expect("the queue is there");
            task.publish("", "out", message.body()).await.expect("confirmed");
            message.ack().expect("acknowledged");
        }
    };
    let inline = Arc::new(Inline(Mutex::new(Some(Box::pin(work)))));
    inline.clone().wake();
    for body in ["one", "two", "three"] {
        // It wakes the task while it holds the lock of the very client that the task uses.
        soon(client.publish("", "in", body)).expect("confirmed");
    }
    assert_eq!(crate::drain(&client, "out"), ["one", "two", "three"]);
    assert!(lock(&inline.0).is_none());
}

#[test]
fn a_future_that_is_polled_and_forgotten_keeps_nobody_from_waking() {
    let scratch = Scratch::new("forgotten");
    let client = scratch.broker().connect();
    declare(&client, &["q"]);
    let mut forgotten = Vec::new();
    for _ in 0..100 {
        let mut confirm = soon(client.send("", "q", "x")).expect("taken");
        if Pin::new(&mut confirm).poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            forgotten.push(confirm);
        }
        soon(client.publish("", "q", "y")).expect("confirmed");
    }
    forgotten.into_iter().for_each(|confirm| assert_eq!(soon(confirm), Ok(Published::Routed)));
}

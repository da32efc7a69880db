//! What every notifier owes its caller, whatever it sends. It knows deliveries, results and time
//! limits, and neither gRPC nor a channel's provider.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::proto::result::Outcome;
use crate::proto::{Delivery, Result as Sent};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Sends = Pin<Box<dyn Future<Output = Result<Sent, Failure>> + Send>>;
/// What a channel does with one delivery.
pub type SendOne = Box<dyn Fn(Delivery) -> Sends + Send + Sync>;

/// The bounds of the process.
#[derive(Clone, Debug)]
pub struct Limits {
    pub batch_max: usize,      // deliveries in one call; more: the call is refused
    pub calls_max: u32,        // calls at a time, told to the caller
    pub sends_max: usize,      // sends at a time; further deliveries wait their turn
    pub waiting_max: usize,    // deliveries waiting or being sent; more: RETRY
    pub remembered_max: usize, // ids that were sent; beyond it the oldest are forgotten
    pub send: Duration,        // one send; longer: UNKNOWN
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            batch_max: 500,
            calls_max: 16,
            sends_max: 256,
            waiting_max: 10_000,
            remembered_max: 100_000,
            send: Duration::from_secs(30),
        }
    }
}

/// Answers once for each delivery of a batch, in time.
///
/// - What has expired is EXPIRED, what is for another channel REJECTED_MESSAGE; neither is sent.
/// - When the wait is over, what has begun is UNKNOWN and runs on; what has not is RETRY and never
///   begins.
/// - One id is sent once: a repeat waits for the one under way, or is told what became of it. The
///   memory of that is bounded, and lost at a restart.
/// - `send` fails or panics: UNKNOWN, since it may have sent. The words of the error are not logged,
///   they may quote a message.
#[derive(Clone)]
pub struct Deliveries(Arc<Inner>);

struct Inner {
    schemes: HashSet<String>,
    send: SendOne,
    limits: Limits,
    /// Gets a line of JSON for each send; only in conformance tests.
    log: Option<Mutex<File>>,
    slots: Semaphore,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    under_way: HashMap<String, Arc<Sending>>,
    remembered: HashMap<String, Sent>,
    ids: VecDeque<String>, // of remembered, in the order in which they were sent
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// One delivery id under way.
struct Sending {
    state: AtomicU8,
    result: watch::Sender<Option<Sent>>,
}

/// The sendings of a call. When the call ends, however it does, what has not begun never will.
struct Call<'a> {
    inner: &'a Inner,
    all: Vec<(String, Arc<Sending>)>,
}

impl Deliveries {
    pub fn new(schemes: Vec<String>, send: SendOne, limits: Limits, log: Option<File>) -> Self {
        let slots = Semaphore::new(limits.sends_max);
        Deliveries(Arc::new(Inner {
            schemes: schemes.into_iter().collect(),
            send,
            limits,
            log: log.map(Mutex::new),
            slots,
            known: Mutex::default(),
        }))
    }

    /// The results, in the order of the batch.
    pub async fn answer(&self, batch: Vec<Delivery>, wait: Duration) -> Vec<Sent> {
        let all = batch
            .into_iter()
            .map(|one| (one.delivery_id.clone(), self.take(one)))
            .collect();
        let call = Call {
            inner: &self.0,
            all,
        };
        let everything = async {
            for (_, one) in &call.all {
                one.ended().await;
            }
        };
        let _ = timeout(wait, everything).await;
        call.withdraw();
        call.all
            .iter()
            .map(|(id, one)| Sent {
                delivery_id: id.clone(),
                ..one.so_far()
            })
            .collect()
    }

    /// Waits until nothing is being sent, or for `grace`.
    pub async fn finish(&self, grace: Duration) {
        let under_way: Vec<_> = self.0.known().under_way.values().cloned().collect();
        let everything = async {
            for one in &under_way {
                one.ended().await;
            }
        };
        let _ = timeout(grace, everything).await;
    }

    fn take(&self, delivery: Delivery) -> Arc<Sending> {
        let id = delivery.delivery_id.clone();
        if id.is_empty() {
            return Sending::over(Outcome::RejectedMessage, "no delivery_id");
        }
        match delivery.endpoint.split_once(':') {
            Some((scheme, _)) if self.0.schemes.contains(&scheme.to_lowercase()) => {}
            _ => return Sending::over(Outcome::RejectedMessage, "not a channel of this plugin"),
        }
        let mut known = self.0.known();
        if let Some(result) = known.remembered.get(&id) {
            return Sending::ended_with(result.clone());
        }
        if let Some(one) = known.under_way.get(&id) {
            return one.clone();
        }
        if known.under_way.len() >= self.0.limits.waiting_max {
            return Sending::over(Outcome::Retry, "too many deliveries under way");
        }
        let one = Arc::new(Sending::new(None));
        known.under_way.insert(id, one.clone());
        drop(known);
        tokio::spawn(Inner::work(self.0.clone(), delivery, one.clone()));
        one
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .expect("nothing panics while it holds this")
    }

    async fn work(self: Arc<Self>, delivery: Delivery, one: Arc<Sending>) {
        let Ok(_slot) = self.slots.acquire().await else {
            return;
        };
        if one.moves(BEGUN) {
            let id = delivery.delivery_id.clone();
            let result = self.attempt(delivery).await;
            self.end(&id, &one, result);
        }
    }

    async fn attempt(self: &Arc<Self>, delivery: Delivery) -> Sent {
        if has_expired(&delivery) {
            return verdict(Outcome::Expired, "");
        }
        self.note(&delivery);
        let id = delivery.delivery_id.clone();
        // In a task of its own, so that a panic costs one delivery: also one of `send` itself, before
        // there is a future.
        let inner = self.clone();
        let mut task = tokio::spawn(async move { (inner.send)(delivery).await });
        match timeout(self.limits.send, &mut task).await {
            Ok(Ok(Ok(result))) => result,
            Ok(_) => {
                eprintln!("send failed, delivery {id}");
                verdict(Outcome::Unknown, "send failed")
            }
            Err(_) => {
                task.abort();
                verdict(Outcome::Unknown, "no answer from the provider")
            }
        }
    }

    fn note(&self, delivery: &Delivery) {
        if let Some(log) = &self.log {
            let line = serde_json::json!({
                "delivery_id": delivery.delivery_id, "endpoint": delivery.endpoint,
            });
            let mut file = log.lock().expect("nothing panics while it holds this");
            if file.write_all(format!("{line}\n").as_bytes()).is_err() {
                eprintln!("the log of sends cannot be written");
            }
        }
    }

    /// Makes a result known, and remembers it if it was sent.
    fn end(&self, id: &str, one: &Sending, result: Sent) {
        let mut known = self.known();
        known.under_way.remove(id);
        if matches!(result.outcome(), Outcome::Accepted | Outcome::Delivered) {
            known.remembered.insert(id.into(), result.clone());
            known.ids.push_back(id.into());
            if known.ids.len() > self.limits.remembered_max
                && let Some(oldest) = known.ids.pop_front()
            {
                known.remembered.remove(&oldest);
            }
        }
        drop(known);
        one.result.send_replace(Some(result));
    }
}

impl Sending {
    fn new(result: Option<Sent>) -> Self {
        Sending {
            state: AtomicU8::new(WAITING),
            result: watch::Sender::new(result),
        }
    }

    fn ended_with(result: Sent) -> Arc<Self> {
        Arc::new(Sending::new(Some(result)))
    }

    fn over(outcome: Outcome, detail: &str) -> Arc<Self> {
        Sending::ended_with(verdict(outcome, detail))
    }

    /// Whether it was waiting, and is now in that state.
    fn moves(&self, state: u8) -> bool {
        self.state
            .compare_exchange(WAITING, state, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    async fn ended(&self) {
        // An error would say that the sender has gone, and that is this.
        let _ = self.result.subscribe().wait_for(Option::is_some).await;
    }

    fn so_far(&self) -> Sent {
        self.result
            .borrow()
            .clone()
            .unwrap_or_else(|| verdict(Outcome::Unknown, "no answer within the deadline"))
    }
}

impl Call<'_> {
    fn withdraw(&self) {
        for (id, one) in &self.all {
            if one.result.borrow().is_none() && one.moves(WITHDRAWN) {
                let detail = "its turn did not come within the deadline";
                self.inner.end(id, one, verdict(Outcome::Retry, detail));
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

fn verdict(outcome: Outcome, detail: &str) -> Sent {
    Sent {
        outcome: outcome.into(),
        detail: detail.into(),
        ..Sent::default()
    }
}

/// By its `expires_at`; without one it never does.
fn has_expired(delivery: &Delivery) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    delivery.expires_at.as_ref().is_some_and(|at| {
        (at.seconds, i64::from(at.nanos)) <= (now.as_secs() as i64, i64::from(now.subsec_nanos()))
    })
}

#[cfg(test)]
#[path = "deliveries_test.rs"]
mod tests;

//! What every notifier owes its caller.

use super::*;

/// Counts what it is given, and holds it while there are no permits.
struct Provider {
    sent: Arc<Mutex<HashMap<String, u32>>>,
    open: Arc<Semaphore>,
    deliveries: Deliveries,
}

const MANY: usize = 1_000;
const SOON: Duration = Duration::from_secs(5);

fn provider(limits: Limits, permits: usize) -> Provider {
    let sent: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let open = Arc::new(Semaphore::new(permits));
    let (counts, gate) = (sent.clone(), open.clone());
    let send: SendOne = Box::new(move |delivery| {
        assert_ne!(delivery.endpoint, "example:panics-before", "as asked");
        *counts
            .lock()
            .unwrap()
            .entry(delivery.delivery_id.clone())
            .or_default() += 1;
        let gate = gate.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            match delivery.endpoint.as_str() {
                "example:fails" => Err("the title was: secret".into()),
                "example:panics" => panic!("as asked"),
                _ => Ok(verdict(Outcome::Accepted, "")),
            }
        })
    });
    let deliveries = Deliveries::new(vec!["example".into()], send, limits, None);
    Provider {
        sent,
        open,
        deliveries,
    }
}

impl Provider {
    async fn answer(&self, batch: &[Delivery], wait: Duration) -> String {
        said(&self.deliveries.answer(batch.to_vec(), wait).await)
    }

    fn count(&self, id: &str) -> u32 {
        self.sent.lock().unwrap().get(id).copied().unwrap_or(0)
    }
}

fn said(results: &[Sent]) -> String {
    let words = results
        .iter()
        .map(|one| format!("{} {}", one.delivery_id, one.outcome().as_str_name()));
    words.collect::<Vec<_>>().join(", ")
}

fn to(id: &str, endpoint: &str) -> Delivery {
    Delivery {
        delivery_id: id.into(),
        endpoint: endpoint.into(),
        ..Delivery::default()
    }
}

fn delivery(id: &str) -> Delivery {
    to(id, &format!("example:{id}"))
}

#[tokio::test]
async fn every_delivery_is_answered_in_order() {
    let p = provider(Limits::default(), MANY);
    let batch = [delivery("a"), delivery("b")];
    assert_eq!(p.answer(&batch, SOON).await, "a ACCEPTED, b ACCEPTED");
}

#[tokio::test]
async fn what_has_expired_or_is_for_another_channel_is_not_sent() {
    let p = provider(Limits::default(), MANY);
    let mut old = delivery("old");
    old.expires_at = Some(prost_types::Timestamp {
        seconds: 1,
        nanos: 0,
    });
    let batch = [old, to("strange", "pigeon:1"), to("", "example:1")];
    let expected = "old EXPIRED, strange REJECTED_MESSAGE,  REJECTED_MESSAGE";
    assert_eq!(p.answer(&batch, SOON).await, expected);
    assert!(p.sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn one_id_is_sent_once_later_and_at_the_same_time() {
    let p = provider(Limits::default(), MANY);
    for _ in 0..2 {
        let batch = [delivery("a"), delivery("a")];
        assert_eq!(p.answer(&batch, SOON).await, "a ACCEPTED, a ACCEPTED");
    }
    let batch = [delivery("b")];
    let both = tokio::join!(p.answer(&batch, SOON), p.answer(&batch, SOON));
    assert_eq!(both, ("b ACCEPTED".into(), "b ACCEPTED".into()));
    assert_eq!((p.count("a"), p.count("b")), (1, 1));
}

#[tokio::test]
async fn at_the_deadline_what_has_begun_is_unknown_and_the_rest_never_begins() {
    let p = provider(
        Limits {
            sends_max: 1,
            ..Limits::default()
        },
        0,
    );
    let batch = [delivery("a"), delivery("b")];
    let answer = p.answer(&batch, Duration::from_millis(50)).await;
    assert_eq!(answer, "a UNKNOWN, b RETRY");
    p.open.add_permits(MANY);
    p.deliveries.finish(SOON).await;
    assert_eq!((p.count("a"), p.count("b")), (1, 0));
    assert_eq!(p.answer(&batch, SOON).await, "a ACCEPTED, b ACCEPTED");
    assert_eq!((p.count("a"), p.count("b")), (1, 1));
}

#[tokio::test]
async fn a_call_that_is_dropped_begins_nothing_more() {
    let p = provider(
        Limits {
            sends_max: 1,
            ..Limits::default()
        },
        0,
    );
    let batch = vec![delivery("a"), delivery("b")];
    let call = p.deliveries.answer(batch, Duration::from_secs(60));
    assert!(timeout(Duration::from_millis(50), call).await.is_err());
    p.open.add_permits(MANY);
    p.deliveries.finish(SOON).await;
    assert_eq!((p.count("a"), p.count("b")), (1, 0));
}

#[tokio::test]
async fn a_failure_and_a_panic_cost_one_delivery_each_and_are_not_quoted() {
    let p = provider(Limits::default(), MANY);
    let batch = vec![
        to("a", "example:fails"),
        to("b", "example:panics"),
        delivery("c"),
        to("d", "example:panics-before"),
    ];
    let results = p.deliveries.answer(batch, SOON).await;
    assert_eq!(
        said(&results),
        "a UNKNOWN, b UNKNOWN, c ACCEPTED, d UNKNOWN"
    );
    assert_eq!(results[3].detail, "send failed");
    assert_eq!(results[0].detail, "send failed");
}

#[tokio::test]
async fn what_was_sent_is_remembered_within_a_bound() {
    let p = provider(
        Limits {
            remembered_max: 2,
            ..Limits::default()
        },
        MANY,
    );
    for id in ["a", "b", "c", "c", "a"] {
        p.answer(&[delivery(id)], SOON).await;
    }
    assert_eq!((p.count("a"), p.count("b"), p.count("c")), (2, 1, 1));
}

#[tokio::test]
async fn beyond_the_bound_deliveries_are_retried() {
    let p = provider(
        Limits {
            waiting_max: 1,
            ..Limits::default()
        },
        MANY,
    );
    let batch = [delivery("a"), delivery("b")];
    assert_eq!(p.answer(&batch, SOON).await, "a ACCEPTED, b RETRY");
}

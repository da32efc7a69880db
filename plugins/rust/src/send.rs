//! The file to change: which channel this plugin serves, and how it sends one notification.

use std::time::Duration;

use crate::proto::result::Outcome;
use crate::proto::{Channel, Delivery, Result as Sent};

pub const NAME: &str = "example";

pub fn channels() -> Vec<Channel> {
    vec![Channel {
        scheme: "example".into(),
        repeats_unknown: true,
        receipts: false,
    }]
}

/// Sends one notification and says what became of it. YOUR PROVIDER'S CALL GOES HERE.
///
/// `delivery.endpoint` says where to, `delivery.title` and `delivery.body` what to show, and
/// `delivery.delivery_id` is the provider's idempotency key, if it has such a thing. What must not be
/// here: retries, memory of what was sent, time limits. An error, or a panic, becomes UNKNOWN.
pub async fn send(delivery: Delivery) -> Result<Sent, Box<dyn std::error::Error + Send + Sync>> {
    let address = delivery
        .endpoint
        .split_once(':')
        .map_or("", |(_, address)| address);
    // In place of a provider: what it answers is read off the address.
    if address.starts_with("slow") {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    if address.starts_with("gone") {
        return Ok(Sent {
            outcome: Outcome::EndpointGone.into(),
            detail: "404".into(),
            ..Sent::default()
        });
    }
    if address.starts_with("busy") {
        return Ok(Sent {
            outcome: Outcome::Retry.into(),
            retry_after: Some(prost_types::Duration {
                seconds: 30,
                nanos: 0,
            }),
            detail: "429".into(),
            ..Sent::default()
        });
    }
    Ok(Sent {
        outcome: Outcome::Accepted.into(),
        provider_id: "example".into(),
        ..Sent::default()
    })
}

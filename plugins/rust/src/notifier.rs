//! The gRPC side: the calls of the contract, and who may call.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::deliveries::{Deliveries, Limits};
use crate::proto::notifier_service_server::NotifierService;
use crate::proto::{
    DescribeRequest, DescribeResponse, HandleCallbackRequest, HandleCallbackResponse,
    NotifyRequest, NotifyResponse,
};
use crate::send::{NAME, channels};

/// Taken off the caller's deadline, so that the answer arrives before it.
const ANSWER_MARGIN: Duration = Duration::from_millis(200);
/// What a caller without a deadline waits.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub struct Notifier {
    pub deliveries: Deliveries,
    pub limits: Limits,
}

#[tonic::async_trait]
impl NotifierService for Notifier {
    async fn describe(
        &self,
        _: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            name: NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            channels: channels(),
            batch_max: self.limits.batch_max as u32,
            concurrency_max: self.limits.calls_max,
            callbacks: false,
        }))
    }

    async fn notify(
        &self,
        request: Request<NotifyRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        let wait = deadline(request.metadata())
            .unwrap_or(WAIT_MAX)
            .saturating_sub(ANSWER_MARGIN);
        let batch = request.into_inner().deliveries;
        let (size, max) = (batch.len(), self.limits.batch_max);
        if !(1..=max).contains(&size) {
            let words = format!("a batch has 1 to {max} deliveries, not {size}");
            return Err(Status::invalid_argument(words));
        }
        let results = self.deliveries.answer(batch, wait).await;
        let mut outcomes = BTreeMap::<&str, usize>::new();
        for one in &results {
            *outcomes.entry(one.outcome().as_str_name()).or_default() += 1;
        }
        eprintln!("batch of {size}: {outcomes:?}");
        Ok(Response::new(NotifyResponse { results }))
    }

    async fn handle_callback(
        &self,
        _: Request<HandleCallbackRequest>,
    ) -> Result<Response<HandleCallbackResponse>, Status> {
        Err(Status::unimplemented("no provider calls back here"))
    }
}

/// The time that the caller gives, as gRPC writes it: up to 8 digits and a unit.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Lets through the calls that carry the secret; without one, all.
pub fn require_secret(
    secret: String,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    let expected = format!("Bearer {secret}").into_bytes();
    move |request| {
        let given = request.metadata().get("authorization");
        if secret.is_empty() || given.is_some_and(|one| same(one.as_bytes(), &expected)) {
            return Ok(request);
        }
        Err(Status::unauthenticated("the shared secret is missing"))
    }
}

/// Compares in a time that does not tell where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_in_every_unit_and_nonsense_is_none() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(read("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3_600)));
        for nonsense in ["", "S", "12", "-1S", "1x"] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(deadline(&MetadataMap::new()), None);
    }

    #[test]
    fn the_secret_is_asked_of_every_call() {
        let check = require_secret("0123456789abcdef".into());
        let call = |shown: Option<&str>| {
            let mut request = Request::new(());
            if let Some(text) = shown {
                request
                    .metadata_mut()
                    .insert("authorization", text.parse().unwrap());
            }
            check(request).is_ok()
        };
        assert!(call(Some("Bearer 0123456789abcdef")));
        for wrong in [
            None,
            Some("Bearer wrong"),
            Some("Bearer 0123456789abcdefg"),
            Some(""),
        ] {
            assert!(!call(wrong), "{wrong:?}");
        }
    }
}

//! The plugin by gRPC.

use std::collections::HashMap;

use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::*;
use crate::proto::notifier_service_client::NotifierServiceClient;
use crate::proto::{Delivery, NotifyRequest};

const SECRET: &str = "0123456789abcdef";

/// A plugin that serves, a client of it, and what ends it.
async fn started() -> (NotifierServiceClient<Channel>, impl AsyncFnOnce()) {
    let (tell, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let plugin = tokio::spawn(async move {
        let env = |name: &str| match name {
            "ONWARD_SECRET" => SECRET.into(),
            "ONWARD_PLUGIN_LISTEN" => "127.0.0.1:0".into(),
            _ => String::new(),
        };
        serve(&env, |at| tell.send(at).unwrap(), async {
            stopped.await.unwrap_or(())
        })
        .await
    });
    let address = address.await.unwrap();
    let client = NotifierServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    (client, async || {
        stop.send(()).unwrap();
        plugin.await.unwrap().unwrap();
    })
}

fn request(endpoints: &[&str], shown: &str) -> Request<NotifyRequest> {
    let one = |(number, endpoint): (usize, &&str)| Delivery {
        delivery_id: format!("{endpoint}{number}"),
        endpoint: endpoint.to_string(),
        ..Delivery::default()
    };
    let deliveries = endpoints.iter().enumerate().map(one).collect();
    let mut request = Request::new(NotifyRequest { deliveries });
    request
        .metadata_mut()
        .insert("authorization", shown.parse().unwrap());
    request
}

async fn notify(
    client: &mut NotifierServiceClient<Channel>,
    request: Request<NotifyRequest>,
) -> Result<Vec<&'static str>, Status> {
    let answer = client.notify(request).await?.into_inner();
    Ok(answer
        .results
        .iter()
        .map(|one| one.outcome().as_str_name())
        .collect())
}

#[tokio::test]
async fn it_serves_who_shows_the_secret_and_within_the_bound() {
    let (mut client, stop) = started().await;
    let shown = format!("Bearer {SECRET}");
    let endpoints = ["example:1", "example:gone", "example:busy", "pigeon:1"];
    let answers = notify(&mut client, request(&endpoints, &shown))
        .await
        .unwrap();
    assert_eq!(
        answers,
        ["ACCEPTED", "ENDPOINT_GONE", "RETRY", "REJECTED_MESSAGE"]
    );
    let refused = notify(&mut client, request(&endpoints, "Bearer wrong"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    for size in [0, Limits::default().batch_max + 1] {
        let batch = vec!["example:1"; size];
        let refused = notify(&mut client, request(&batch, &shown))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    stop().await;
}

#[tokio::test]
async fn the_answer_comes_before_the_deadline() {
    let (mut client, stop) = started().await;
    let mut asked = request(&["example:slow", "example:2"], &format!("Bearer {SECRET}"));
    asked.set_timeout(Duration::from_secs(2));
    assert_eq!(
        notify(&mut client, asked).await.unwrap(),
        ["UNKNOWN", "ACCEPTED"]
    );
    stop().await;
}

#[tokio::test]
async fn wrong_settings_stop_the_start_with_a_sentence() {
    let secret = ("ONWARD_SECRET", SECRET);
    for (settings, words) in [
        (vec![], "ONWARD_SECRET is not set"),
        (vec![("ONWARD_SECRET", "short")], "shorter than 16"),
        (
            vec![("ONWARD_PLUGIN_TLS_CA_FILE", "ca.pem")],
            "set all three, or none",
        ),
        (
            vec![secret, ("ONWARD_PLUGIN_SENT_LOG", "/nowhere/at/all")],
            "No such file",
        ),
        (
            vec![secret, ("ONWARD_PLUGIN_LISTEN", "nonsense")],
            "nonsense",
        ),
    ] {
        let settings: HashMap<_, _> = settings.into_iter().collect();
        let env = |name: &str| settings.get(name).unwrap_or(&"").to_string();
        let error = serve(&env, |_| (), async {}).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

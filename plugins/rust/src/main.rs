//! A notifier plugin: serves what `send.rs` sends.
//!
//! Environment:
//! - `ONWARD_SECRET`: the shared secret that callers show, 16 characters or more
//! - `ONWARD_PLUGIN_LISTEN`: host:port; 127.0.0.1:7500 if it is not set, port 0 draws one
//! - `ONWARD_PLUGIN_TLS_CA_FILE`, with `_CERT_FILE` and `_KEY_FILE`: mutual TLS, instead of the secret
//!   or with it
//! - `ONWARD_PLUGIN_SENT_LOG`: a file that gets a line for each send; for conformance tests only

use std::fs::{File, OpenOptions, read};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;

use crate::deliveries::{Deliveries, Limits};
use crate::notifier::{Notifier, require_secret};
use crate::proto::notifier_service_server::NotifierServiceServer;

mod deliveries;
mod notifier;
mod send;

/// What is generated from the contract.
pub mod proto {
    tonic::include_proto!("onward.notifier.v1");
}

const SERVICE: &str = "onward.notifier.v1.NotifierService";
const SECRET_CHARACTERS_MIN: usize = 16;
/// A call of the presence service may have 8 MiB of content.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
const DRAIN: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Env<'a> = &'a (dyn Fn(&str) -> String + Sync);

#[tokio::main]
async fn main() {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let ready = |address| println!("{} ready: {address}", send::NAME);
    if let Err(error) = serve(&env, ready, ended()).await {
        eprintln!("{}: {error}", send::NAME);
        std::process::exit(1);
    }
}

/// Returns at SIGTERM or Ctrl-C.
async fn ended() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Serves until `stop`, then ends what is under way.
async fn serve(
    env: Env<'_>,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let (secret, tls) = trust(env)?;
    let log = sent_log(env)?;
    let listen = Some(env("ONWARD_PLUGIN_LISTEN")).filter(|one| !one.is_empty());
    let listen = listen.unwrap_or_else(|| "127.0.0.1:7500".into());
    let listener = TcpListener::bind(&listen)
        .await
        .map_err(|e| format!("{listen}: {e}"))?;
    let address = listener.local_addr()?;

    let limits = Limits::default();
    let schemes = send::channels()
        .into_iter()
        .map(|channel| channel.scheme)
        .collect();
    let sends = Box::new(|delivery| Box::pin(send::send(delivery)) as _);
    let deliveries = Deliveries::new(schemes, sends, limits.clone(), log);
    let notifier = NotifierServiceServer::new(Notifier {
        deliveries: deliveries.clone(),
        limits,
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status(SERVICE, ServingStatus::Serving)
        .await;

    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    let serving = server
        .add_service(InterceptedService::new(
            health,
            require_secret(secret.clone()),
        ))
        .add_service(InterceptedService::new(notifier, require_secret(secret)))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async {
                let _ = is_cut.await;
            },
        );
    ready(address);
    let mut serving = tokio::spawn(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended??),
        () = stop => {}
    }
    reporter
        .set_service_status("", ServingStatus::NotServing)
        .await;
    reporter
        .set_service_status(SERVICE, ServingStatus::NotServing)
        .await;
    let _ = cut.send(());
    let _ = tokio::time::timeout(DRAIN, serving).await;
    deliveries.finish(DRAIN).await;
    Ok(())
}

/// The secret that callers show, and what TLS needs.
fn trust(env: Env<'_>) -> Result<(String, Option<ServerTlsConfig>), Failure> {
    let secret = env("ONWARD_SECRET");
    if !secret.is_empty() && secret.len() < SECRET_CHARACTERS_MIN {
        return Err(
            format!("ONWARD_SECRET is shorter than {SECRET_CHARACTERS_MIN} characters").into(),
        );
    }
    let names = ["CA", "CERT", "KEY"].map(|part| format!("ONWARD_PLUGIN_TLS_{part}_FILE"));
    let missing: Vec<_> = names.iter().filter(|name| env(name).is_empty()).collect();
    if missing.len() == names.len() {
        if secret.is_empty() {
            return Err(
                format!("ONWARD_SECRET is not set; set it, or {}", names.join(", ")).into(),
            );
        }
        return Ok((secret, None));
    }
    if let Some(name) = missing.first() {
        return Err(format!("{name} is not set, and others are; set all three, or none").into());
    }
    let read_named = |name: &String| read(env(name)).map_err(|e| format!("{name}: {e}"));
    let [ca, cert, key] = [
        read_named(&names[0])?,
        read_named(&names[1])?,
        read_named(&names[2])?,
    ];
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(ca));
    Ok((secret, Some(tls)))
}

fn sent_log(env: Env<'_>) -> Result<Option<File>, Failure> {
    let path = env("ONWARD_PLUGIN_SENT_LOG");
    if path.is_empty() {
        return Ok(None);
    }
    let file = OpenOptions::new().append(true).create(true).open(&path);
    Ok(Some(file.map_err(|error| format!("{path}: {error}"))?))
}

#[cfg(test)]
#[path = "main_test.rs"]
mod tests;

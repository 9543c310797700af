//! An axum service behind TLS, which is replaced while it serves.
//!
//! ```text
//! cargo run --example tls --features axum,rustls -- 127.0.0.1:8443
//! curl --insecure https://127.0.0.1:8443/
//! kill -HUP <pid>
//! ```
//!
//! The first argument is the address (`127.0.0.1:8443` if there is none). The second and the third are the paths of the
//! certificate chain and of its key, both PEM. Without them the first generation makes a certificate for `localhost`,
//! and lends it to the ones after it, so that a client that has come to believe it goes on doing so.
//!
//! The address that it got is printed to standard output as `listening on <address>`; the log goes to standard error.

use std::error::Error;
use std::fs::File;
use std::io::IsTerminal;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use handover::rustls::TlsListener;
use handover::{Context, Peer};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing_subscriber::EnvFilter;

type BoxError = Box<dyn Error + Send + Sync>;

#[handover::main]
async fn main(cx: Context) -> Result<(), BoxError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:8443".to_owned());
    let (chain, key) = match (arguments.next(), arguments.next()) {
        (Some(chain), Some(key)) => (
            CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?,
            PrivateKeyDer::from_pem_file(key)?,
        ),
        _ => self_signed(&cx)?,
    };
    // ring is what this example has chosen; the library has chosen none.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let listener = cx.bind(address.as_str()).await?;
    println!("listening on {}", listener.local_addr()?);
    let listener = TlsListener::new(listener, Arc::new(config));
    cx.ready().await?;
    let app = app(&cx).into_make_service_with_connect_info::<Peer>();
    handover::axum::serve(listener, app).await?;
    Ok(())
}

fn app(cx: &Context) -> Router {
    let identity = format!("pid={} generation={}", std::process::id(), cx.generation());
    let hello = async |ConnectInfo(peer): ConnectInfo<Peer>| format!("hello, {peer}");
    Router::new()
        .route("/", get(async || identity))
        .route("/hello", get(hello))
}

/// The certificate and the key that the predecessor has lent, or else new ones.
fn self_signed(
    cx: &Context,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), BoxError> {
    let (certificate, key) = match (cx.take("certificate")?, cx.take("key")?) {
        (Some(certificate), Some(key)) => (read(certificate.into())?, read(key.into())?),
        _ => {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
            let (certificate, key) = (made.cert.der().to_vec(), made.signing_key.serialize_der());
            cx.lend("certificate", written(&certificate)?)?;
            cx.lend("key", written(&key)?)?;
            (certificate, key)
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    Ok((vec![CertificateDer::from(certificate)], key))
}

/// A file without a name.
fn written(content: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    Ok(file)
}

fn read(mut file: File) -> std::io::Result<Vec<u8>> {
    // The position is shared with everybody who has it.
    file.rewind()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

//! Connections: TLS, timeouts, age, and the two lanes that keep one warm.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;
use crate::store::postgres::fault::{Fault, within};
use crate::store::postgres::marks::Marks;
use crate::store::postgres::options::{Options, quoted};
use crate::store::postgres::schema;

/// Fly's proxy cuts connections 600 s after it begins a restart; ours are replaced before.
const LIFETIME_MAX: Duration = Duration::from_secs(540);

/// Whatever stands between forgets idle connections after 300 s or later.
const IDLE_MAX: Duration = Duration::from_secs(240);

/// Makes connections.
pub struct Connector {
    pub(super) options: Options,
    config: Config,
    tls: MakeRustlsConnect,
    /// The schema was looked at once and was as this program wants it. It is not looked at again: during a deploy the
    /// next version's migrations come before the last node of this version goes.
    verified: AtomicBool,
    pub marks: Marks,
}

/// An open connection with its driver. Dropped, it is cut at once, and the server rolls back what it had open.
pub struct Connection {
    pub client: Client,
    driver: AbortHandle,
    opened: Instant,
    used: Instant,
}

/// A place for one connection, used by one task at a time.
pub struct Lane {
    connector: Arc<Connector>,
    slot: Arc<Mutex<Option<Connection>>>,
}

/// A connection and the right to its lane.
pub struct Held {
    pub connection: Connection,
    pub connector: Arc<Connector>,
    slot: OwnedMutexGuard<Option<Connection>>,
}

impl Connector {
    pub fn new(options: Options) -> Result<Self, StoreError> {
        let mut config = Config::new();
        config
            .host(&options.host)
            .port(options.port)
            .user(&options.user)
            .dbname(&options.database)
            .application_name("tidegate")
            .ssl_mode(if options.ssl { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(options.timeout)
            .tcp_user_timeout(options.timeout * 2)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
        if let Some(password) = &options.password {
            config.password(password);
        }
        let tls = MakeRustlsConnect::new(tls(&options).map_err(StoreError::Broken)?);
        Ok(Self { options, config, tls, verified: AtomicBool::new(false), marks: Marks::default() })
    }

    /// Connects, whatever the schema is.
    pub async fn connect(&self) -> Result<Connection, Fault> {
        self.connect_hearing(|_| ()).await
    }

    /// As `connect`; `hear` gets the payload of each notification.
    pub async fn connect_hearing(&self, hear: impl Fn(&str) + Send + 'static) -> Result<Connection, Fault> {
        // Several addresses are tried in turn, each with the driver's own limit.
        let connecting = self.config.connect(self.tls.clone());
        let (client, mut driver) = within(self.options.timeout * 2, connecting).await?;
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| driver.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(told)) => hear(told.payload()),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the database ended");
                        return;
                    }
                }
            }
        });
        let now = Instant::now();
        Ok(Connection { client, driver: driver.abort_handle(), opened: now, used: now })
    }

    async fn connect_verified(&self) -> Result<Connection, Fault> {
        let connection = self.connect().await?;
        if !self.verified.load(Ordering::Relaxed) {
            let status = within(self.options.timeout, schema::look(&connection.client, &self.options)).await?;
            if let Some(problem) = status.problem() {
                return Err(Fault::schema(problem));
            }
            self.verified.store(true, Ordering::Relaxed);
        }
        Ok(connection)
    }

    /// What each transaction begins with, as a text without parameters. Everything ends with the transaction.
    pub fn prelude(&self, mode: &str) -> String {
        format!(
            "BEGIN {mode}; SET LOCAL search_path TO {}; SET LOCAL lock_timeout = 1500; \
             SET LOCAL idle_in_transaction_session_timeout = 15000; SET LOCAL tidegate.writer = 'on'",
            quoted(self.options.schema())
        )
    }
}

impl Lane {
    pub fn new(connector: Arc<Connector>) -> Self {
        Self { connector, slot: Arc::default() }
    }

    /// Does `work` on the warm connection, or on a new one when there is none or it turns out to be cut.
    /// Work that fails or is dropped loses its connection.
    pub async fn run<T, F: Future<Output = Result<T, Fault>>>(&self, work: impl Fn(Held) -> F) -> Result<T, Fault> {
        let mut slot = self.slot.clone().lock_owned().await;
        if let Some(connection) = slot.take().filter(Connection::is_fresh) {
            match work(Held { connection, connector: self.connector.clone(), slot }).await {
                Err(fault) if fault.cut => slot = self.slot.clone().lock_owned().await,
                Err(fault) => return Err(self.doubting(fault)),
                done => return done,
            }
        }
        let connection = self.connector.connect_verified().await?;
        work(Held { connection, connector: self.connector.clone(), slot }).await.map_err(|fault| self.doubting(fault))
    }

    /// After a complaint about the schema it is looked at again.
    fn doubting(&self, fault: Fault) -> Fault {
        if matches!(fault.error, StoreError::Schema(_)) {
            self.connector.verified.store(false, Ordering::Relaxed);
        }
        fault
    }
}

impl Held {
    /// Gives the connection back to its lane, between transactions.
    pub fn give_back(mut self) {
        self.connection.used = Instant::now();
        *self.slot = Some(self.connection);
    }

    pub fn timeout(&self) -> Duration {
        self.connector.options.timeout
    }
}

impl Connection {
    fn is_fresh(&self) -> bool {
        !self.client.is_closed() && self.opened.elapsed() < LIFETIME_MAX && self.used.elapsed() < IDLE_MAX
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn tls(options: &Options) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if options.ssl && options.ssl_verify {
        let roots = Arc::new(roots(options)?);
        WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| format!("no certificate can verify the database: {error}"))?
    } else {
        Arc::new(Anybody(provider.clone()))
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

/// The system's roots and those of the options. A root of the system that cannot be read is passed over.
fn roots(options: &Options) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for bundle in &options.roots {
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate = certificate.map_err(|error| format!("a trusted certificate cannot be read: {error}"))?;
            store.add(certificate).map_err(|error| format!("a trusted certificate cannot be used: {error}"))?;
        }
    }
    Ok(store)
}

/// Encryption without knowing with whom: `pg_ssl` without `pg_ssl_verify`. Signatures are still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

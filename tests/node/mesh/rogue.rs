//! A peer that speaks QUIC as it likes: with the cluster's certificate or without, well-behaved or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::sign::SingleCertAndKey;
use tidegate::cluster::transport::Identity;
use tidegate::cluster::transport::identity;
use tidegate::cluster::transport::identity::Credentials;
use tidegate::listen::trust::AcceptAny;
use tidegate_proto::frame::{Frame, Hello};

/// What a rogue takes that does not read, in bytes.
const WINDOW: u32 = 128 << 10;

/// A connection with its first stream.
pub struct Rogue {
    pub connection: Connection,
    pub send: SendStream,
    pub recv: RecvStream,
    _endpoint: Endpoint,
}

/// Dials with the certificate that a node of this identity has, or none.
pub async fn dial(address: SocketAddr, shown: Option<(&Identity, &str)>) -> Result<Rogue, ConnectionError> {
    dial_with(address, shown, true).await
}

async fn dial_with(
    address: SocketAddr,
    shown: Option<(&Identity, &str)>,
    datagrams: bool,
) -> Result<Rogue, ConnectionError> {
    let builder = rustls::ClientConfig::builder_with_provider(identity::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny::new(identity::provider())));
    let mut tls = match shown {
        None => builder.with_no_client_auth(),
        Some((identity, node_id)) => {
            let certified = Credentials::load(identity, node_id).unwrap().leaves[0].certified.clone();
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*certified).clone())))
        }
    };
    tls.alpn_protocols = vec![b"tidegate/1".to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.datagram_receive_buffer_size(datagrams.then_some(64 << 10));
    transport.receive_window(quinn::VarInt::from_u32(WINDOW));
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let connection = endpoint.connect_with(config, address, "x").unwrap().await?;
    let (send, recv) = connection.open_bi().await?;
    Ok(Rogue { connection, send, recv, _endpoint: endpoint })
}

impl Rogue {
    /// Becomes a member under this name.
    pub async fn join(address: SocketAddr, identity: &Identity, hello: Hello) -> Self {
        Self::join_with(address, identity, hello, true).await
    }

    /// As `join`, and says whether it takes datagrams.
    pub async fn join_with(address: SocketAddr, identity: &Identity, hello: Hello, datagrams: bool) -> Self {
        let shown = Some((identity, hello.node_id.as_str()));
        let mut rogue = dial_with(address, shown, datagrams).await.unwrap();
        rogue.say(&Frame::Hello(hello)).await;
        let mut answer = [0; 4];
        rogue.recv.read_exact(&mut answer).await.unwrap();
        rogue
    }

    /// Sends a frame on the first stream.
    pub async fn say(&mut self, frame: &Frame) {
        self.say_bytes(&frame.encode(1).unwrap()).await;
    }

    /// Sends bytes in the place of a frame on the first stream.
    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        self.send.write_all(&[&len[..], bytes].concat()).await.unwrap();
    }

    /// Waits for the node to close the connection.
    pub async fn end(&self) -> ConnectionError {
        tokio::time::timeout(crate::mesh::PATIENCE, self.connection.closed()).await.expect("an end in time")
    }
}

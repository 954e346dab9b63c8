//! The UDP socket and how QUIC runs over it: times, sizes and windows, in one place.
//!
//! One endpoint dials and is dialled. Migration, 0-RTT and session tickets are off: connections live long, a machine
//! that moves starts again, and every connection shows its certificates afresh. Path MTU is probed up to what a
//! WireGuard interface of 1,420 bytes lets through over IPv6, and not further: a black hole costs more than it gains.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::client::Resumption;
use socket2::{Domain, Protocol, Socket, Type};

use crate::cluster::transport::identity::Credentials;
use crate::cluster::transport::identity::provider;
use crate::cluster::transport::verify::Verifier;

/// Nothing heard for so long: the connection is over.
pub const IDLE: Duration = Duration::from_secs(8);
/// The dialer makes itself heard so often; several of these fit into `IDLE`.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long a stranger may take to prove itself.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

const ALPN: &[u8] = b"tidegate/1";
const MTU_MIN: u16 = 1200;
const MTU_MAX: u16 = 1372;
/// Makes the first packets be repeated after 300 ms instead of a second.
const RTT_INITIAL: Duration = Duration::from_millis(100);
/// One stream alone does not fill the connection's window: small frames pass beside a large one. In bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// What a peer may have us buffer, and what we buffer for a peer that does not read. In bytes, per connection.
const CONNECTION_WINDOW: u32 = 2 << 20;
const UNI_STREAMS_MAX: u32 = 64;
/// The control stream and three transfers.
const BI_STREAMS_MAX: u32 = 4;
/// Urgent counts that wait to be sent, and to be read; more push out the oldest. In bytes, per connection.
const DATAGRAMS_LEN_MAX: usize = 64 << 10;
const SOCKET_BUFFER_LEN: usize = 4 << 20;
/// Strangers in the middle of a handshake; more are dropped by quinn.
const INCOMING_MAX: usize = 512;
const INCOMING_BUFFER_LEN: u64 = 64 << 10;
const INCOMING_BUFFER_TOTAL: u64 = 4 << 20;

/// Both sides' configuration for one set of credentials.
pub struct Configs {
    pub credentials: Arc<Credentials>,
    pub client: quinn::ClientConfig,
    pub server: quinn::ServerConfig,
}

impl Configs {
    pub fn new(credentials: Credentials, segmentation_offload: bool) -> io::Result<Self> {
        let credentials = Arc::new(credentials);
        let verifier = Arc::new(Verifier::new(credentials.clone()));
        let client = client(verifier.clone(), segmentation_offload)?;
        let server = server(verifier, segmentation_offload)?;
        Ok(Self { credentials, client, server })
    }
}

/// Binds `listen`. Buffers are asked for generously; the system may give less.
pub fn bind(listen: SocketAddr, configs: &Configs) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_LEN);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_LEN);
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    let config = endpoint_config(&configs.credentials);
    Endpoint::new(config, Some(configs.server.clone()), socket.into(), Arc::new(TokioRuntime))
}

fn endpoint_config(credentials: &Credentials) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &credentials.reset_key)));
    let key = credentials.connection_id_key;
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    // All peers of a node that started again are to learn of it at once; a reset is shorter than what it answers.
    config.min_reset_interval(Duration::from_millis(1));
    config
}

fn client(verifier: Arc<Verifier>, segmentation_offload: bool) -> io::Result<quinn::ClientConfig> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(verifier);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(segmentation_offload);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn server(verifier: Arc<Verifier>, segmentation_offload: bool) -> io::Result<quinn::ServerConfig> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(verifier);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.migration(false);
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BUFFER_LEN);
    config.incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    config.transport_config(Arc::new(transport(segmentation_offload)));
    Ok(config)
}

fn transport(segmentation_offload: bool) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_MAX);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE.as_millis() as u32))))
        .initial_rtt(RTT_INITIAL)
        .initial_mtu(MTU_MIN)
        .min_mtu(MTU_MIN)
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(BI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAMS_LEN_MAX))
        .datagram_send_buffer_size(DATAGRAMS_LEN_MAX)
        .enable_segmentation_offload(segmentation_offload);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_keep_alives_fit_into_the_idle_time() {
        assert!(KEEP_ALIVE * 3 < IDLE);
    }

    #[test]
    fn a_stream_leaves_room_for_others() {
        const { assert!(CONNECTION_WINDOW > STREAM_WINDOW) };
    }
}

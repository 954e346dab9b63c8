//! One message of the membership protocol as opaque bytes, and back, within bounds.
//!
//! The library's decoder unpacks each compressed block into up to 64 KB without counting blocks, so a short envelope
//! could ask for hundreds of megabytes. What is about to be unpacked is counted here first.

use chitchat::{ChitchatId, ChitchatMessage, Deserializable, Serializable};

/// The longest message of the protocol, in bytes: it was made for datagrams.
const MESSAGE_LEN_MAX: usize = 65_507;
/// Compressed blocks in a message. An honest sender fills each with 16 KB, of which a full cell makes fewer than these.
const BLOCKS_MAX: usize = 64;
/// Shorter messages gain nothing from compression.
const COMPRESS_FROM: usize = 1024;
const COMPRESSION_LEVEL: i32 = 1;

const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

/// Where a message says of which type it is, and the types that carry blocks.
const TYPE_AT: usize = 3;
const SYN_ACK: u8 = 1;
const ACK: u8 = 2;
/// Heartbeat, collected version and greatest version of one node in a digest.
const DIGEST_NUMBERS_LEN: usize = 24;

/// The bytes of `message`, compressed when that is shorter.
pub fn seal(message: &ChitchatMessage) -> Vec<u8> {
    let plain = message.serialize_to_vec();
    if plain.len() >= COMPRESS_FROM
        && let Ok(packed) = zstd::bulk::compress(&plain, COMPRESSION_LEVEL)
        && packed.len() < plain.len()
    {
        return marked(COMPRESSED, &packed);
    }
    marked(PLAIN, &plain)
}

/// The message in `envelope`; `None` when it is none, or asks for too much memory.
pub fn open(envelope: &[u8]) -> Option<ChitchatMessage> {
    let (mark, bytes) = envelope.split_first()?;
    let unpacked;
    let plain = match *mark {
        PLAIN if bytes.len() <= MESSAGE_LEN_MAX => bytes,
        COMPRESSED => {
            unpacked = zstd::bulk::decompress(bytes, MESSAGE_LEN_MAX).ok()?;
            unpacked.as_slice()
        }
        _ => return None,
    };
    count_blocks(plain)?;
    let mut rest = plain;
    let message = ChitchatMessage::deserialize(&mut rest).ok()?;
    rest.is_empty().then_some(message)
}

fn marked(mark: u8, bytes: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::with_capacity(bytes.len() + 1);
    envelope.push(mark);
    envelope.extend_from_slice(bytes);
    envelope
}

/// How many compressed blocks there are; `None` when too many, or when they do not end.
fn count_blocks(message: &[u8]) -> Option<usize> {
    let kind = *message.get(TYPE_AT)?;
    let mut rest = message.get(TYPE_AT + 1..)?;
    if kind == SYN_ACK {
        pass_digest(&mut rest)?;
    }
    if !matches!(kind, SYN_ACK | ACK) {
        return Some(0);
    }
    for count in 0..BLOCKS_MAX {
        let (tag, behind) = rest.split_first()?;
        if *tag == 0 {
            return Some(count);
        }
        let (len, behind) = behind.split_first_chunk()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    None
}

fn pass_digest(rest: &mut &[u8]) -> Option<()> {
    let (count, behind) = rest.split_first_chunk()?;
    *rest = behind;
    for _ in 0..u16::from_le_bytes(*count) {
        ChitchatId::deserialize(rest).ok()?;
        *rest = rest.get(DIGEST_NUMBERS_LEN..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use chitchat::transport::{ChannelTransport, Transport};
    use chitchat::{ChitchatConfig, FailureDetectorConfig};
    use proptest::prelude::*;

    use super::*;

    fn header(kind: u8) -> Vec<u8> {
        let syn = ChitchatMessage::BadCluster.serialize_to_vec();
        [&syn[..TYPE_AT], &[kind]].concat()
    }

    /// What a node that knows itself, with facts of `len` bytes, answers to one that knows nothing.
    async fn syn_ack(len: usize) -> ChitchatMessage {
        let transport = ChannelTransport::with_mtu(MESSAGE_LEN_MAX);
        let (here, there) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new("a", 1, here),
            cluster_id: "c".to_owned(),
            gossip_interval: std::time::Duration::from_secs(1),
            listen_addr: here,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig::default(),
            marked_for_deletion_grace_period: std::time::Duration::from_secs(1),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let fact = ("fact".to_owned(), "x".repeat(len));
        let node = chitchat::spawn_chitchat(config, vec![fact], &transport).await.unwrap();
        let mut socket = transport.open(there).await.unwrap();
        node.gossip(there).unwrap();
        let (_, syn) = socket.recv().await.unwrap();
        let ChitchatMessage::Syn { cluster_id, .. } = syn else { panic!("{syn:?}") };
        let mut bytes = header(0);
        bytes.extend(0u16.to_le_bytes());
        cluster_id.serialize(&mut bytes);
        socket.send(here, ChitchatMessage::deserialize(&mut bytes.as_slice()).unwrap()).await.unwrap();
        socket.recv().await.unwrap().1
    }

    #[tokio::test]
    async fn what_nodes_say_survives_the_envelope() {
        for len in [10, 30_000] {
            let message = syn_ack(len).await;
            let envelope = seal(&message);
            assert!(envelope.len() < 1024, "{}", envelope.len());
            assert_eq!(open(&envelope), Some(message));
        }
        assert_eq!(open(&seal(&ChitchatMessage::BadCluster)), Some(ChitchatMessage::BadCluster));
    }

    #[test]
    fn blocks_that_unpack_into_too_much_are_refused() {
        let block = zstd::bulk::compress(&vec![0; usize::from(u16::MAX)], 1).unwrap();
        let mut bytes = header(ACK);
        for _ in 0..=BLOCKS_MAX {
            bytes.push(1);
            bytes.extend((block.len() as u16).to_le_bytes());
            bytes.extend(&block);
        }
        bytes.push(0);
        assert_eq!(open(&marked(PLAIN, &bytes)), None);
    }

    #[test]
    fn an_envelope_that_unpacks_into_too_much_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 10 << 20], 1).unwrap();
        assert_eq!(open(&marked(COMPRESSED, &bomb)), None);
        assert_eq!(open(&marked(PLAIN, &vec![0; MESSAGE_LEN_MAX + 1])), None);
        assert_eq!(open(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, kind in 0u8..5) {
            open(&bytes);
            open(&marked(PLAIN, &[header(kind), bytes].concat()));
        }
    }
}

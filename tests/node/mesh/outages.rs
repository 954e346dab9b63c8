//! Restarts, cuts, moved addresses, rotations: what a network and its operators do (30, 33, 34, 35).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tidegate::cluster::transport::Event;
use tidegate::cluster::transport::Identity;

use crate::mesh::{Node, Plan, beat, connect, couple, echoing, secret, spans, until};
use crate::relay::{Link, Relay, free_addresses};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_rotate_one_node_at_a_time() {
    let of = |id: &str, main: &str, previous: Option<&str>| Plan { identity: secret(main, previous), ..Plan::new(id) };
    for (first, second) in [
        (("old", None), ("new", Some("old"))),
        (("old", Some("new")), ("new", Some("old"))),
        (("new", Some("old")), ("new", None)),
    ] {
        for (dialer, dialled) in [(first, second), (second, first)] {
            let (mut a, mut b) = couple(&of("a", dialer.0, dialer.1), &of("b", dialled.0, dialled.1)).await;
            assert!(a.mesh.send("b", &beat(1)) && b.mesh.send("a", &beat(2)));
            assert_eq!((b.frame().await.1, a.frame().await.1), (beat(1), beat(2)));
        }
    }
    let (a, b) = (of("a", "old", None).start(), of("b", "new", None).start());
    a.mesh.dial(b.address());
    until("after the rotation the old secret is a stranger's", || a.refused("unknown_authority") == 1).await;
}

/// The round trip here is a few milliseconds; what is waited for is the next packet to the process that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_started_again_is_noticed_at_the_first_packet() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    relay.set_all(Link::delayed(5));
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (mut a, b) = couple(&plan("a", 0), &plan("b", 1)).await;
    // Killed: nobody hears of it, and the next process does not know the connection.
    relay.cut(0, 1);
    b.mesh.close().await;
    drop(b);
    let _b = Plan { incarnation: 2, ..plan("b", 1) }.start();
    relay.heal();
    let began = Instant::now();
    a.mesh.send("b", &beat(1));
    let why = a.closed("b").await;
    assert!(began.elapsed() < Duration::from_secs(1), "{why} after {:?}", began.elapsed());
    assert!(why.contains("process"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_incarnation_takes_the_place_of_the_earlier() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    relay.cut(0, 1);
    a.mesh.close().await;
    drop(a);
    let mut a = Plan { incarnation: 2, ..plan("a", 0) }.start();
    relay.heal();
    a.mesh.dial(b.address());
    assert_eq!(b.connected("a").await.incarnation, 2);
    a.connected("b").await;
    assert!(b.mesh.send("a", &beat(9)));
    assert_eq!(a.frame().await.1, beat(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_were_swapped_mislead_nobody() {
    let listens = free_addresses(3);
    let relay = Relay::new(&listens, 1);
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let mut a = plan("a", 0).start();
    let (mut b, mut c) = (plan("b", 1).start(), plan("c", 2).start());
    connect(&mut a, &mut b).await;
    connect(&mut a, &mut c).await;
    b.mesh.close().await;
    c.mesh.close().await;
    drop((b, c));
    a.closed("b").await;
    // Each comes back where the other was; `a` dials by the old addresses.
    let later = |plan: Plan| Plan { incarnation: 2, ..plan };
    let (mut b, mut c) = (later(plan("b", 2)).start(), later(plan("c", 1)).start());
    until("both are back", || {
        a.mesh.dial(relay.address(1));
        a.mesh.dial(relay.address(2));
        a.mesh.send("b", &beat(1)) && a.mesh.send("c", &beat(2))
    })
    .await;
    assert!(b.mesh.send("a", &beat(11)) && c.mesh.send("a", &beat(12)));
    for _ in 0..2 {
        let (peer, frame) = a.frame().await;
        assert_eq!(frame, if peer == "b" { beat(11) } else { beat(12) });
    }
    // Frames reached whom they were for, never the other.
    assert_eq!(last_beat(&mut b).await, beat(1));
    assert_eq!(last_beat(&mut c).await, beat(2));
}

async fn last_beat(node: &mut Node) -> tidegate_proto::frame::Frame {
    node.frame().await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_for_1280_bytes_is_enough() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    // 1,280 with the headers of IPv6 and UDP; what is longer vanishes without a word.
    relay.set_all(Link { len_max: 1280 - 48, ..Link::delayed(2) });
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    let began = Instant::now();
    for number in 1..=5 {
        assert!(a.mesh.send("b", &spans(number, 150_000)));
    }
    for number in 1..=5 {
        assert_eq!(b.frame().await.1, spans(number, 150_000));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// The path becomes narrower under a connection that has found it wide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_becomes_narrow_is_survived() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    relay.set_all(Link::delayed(2));
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    assert!(a.mesh.send("b", &spans(1, 300_000)));
    assert_eq!(b.frame().await.1, spans(1, 300_000));
    relay.set_all(Link { len_max: 1232, ..Link::delayed(2) });
    assert!(a.mesh.send("b", &spans(2, 300_000)));
    assert_eq!(b.frame().await.1, spans(2, 300_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_cut_in_one_direction_is_noticed_on_both_sides() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (mut a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    relay.cut_one_way(1, 0);
    let (began, mut ends) = (Instant::now(), [None, None]);
    // Both beat every 100 ms and say how long ago they heard the other, as nodes do.
    while ends.iter().any(Option::is_none) {
        let age = u32::try_from(began.elapsed().as_millis()).unwrap();
        a.mesh.send("b", &echoing(1, age));
        b.mesh.send("a", &echoing(1, 0));
        for (end, node) in ends.iter_mut().zip([&mut a, &mut b]) {
            while let Ok(event) = node.events.try_recv() {
                if matches!(event, Event::Closed { .. }) {
                    *end = Some(began.elapsed());
                }
            }
        }
        assert!(began.elapsed() < Duration::from_secs(12), "{ends:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ends.iter().flatten().all(|end| *end < Duration::from_secs(9)), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialling_through_a_cut_connects_soon_after_it_heals() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    relay.set_all(Link::delayed(20));
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (mut a, b) = (plan("a", 0).start(), plan("b", 1).start());
    relay.cut(0, 1);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        a.mesh.dial(b.address());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    relay.heal();
    let healed = Instant::now();
    let dialling = async {
        loop {
            a.mesh.clone().dial(b.address());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mesh = a.mesh.clone();
    let up = until("a connection", || mesh.rtt("b").is_some());
    tokio::select! {
        () = up => {}
        () = dialling => {}
    }
    assert!(healed.elapsed() < Duration::from_millis(800), "{:?}", healed.elapsed());
    a.connected("b").await;
}

/// An authority in files, and certificates of it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes what a node needs; more authorities may be trusted.
    fn write(&self, folder: &Path, node_id: &str, trusted: &[&Authority]) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([node_id.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let authorities: String = trusted.iter().map(|authority| authority.0.pem()).collect();
        fs::write(folder.join("ca.pem"), authorities).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    }
}

fn files(id: &str, folder: &Path) -> Plan {
    let path = |name: &str| folder.join(name);
    let identity = Identity::Files { cert: path("cert.pem"), key: path("key.pem"), authority: path("ca.pem") };
    Plan { identity, ..Plan::new(id) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_in_files_are_read_again_when_they_change() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [at_a, at_b, at_c] = [folders[0].path(), folders[1].path(), folders[2].path()];
    old.write(at_a, "a", &[&old]);
    old.write(at_b, "b", &[&old]);
    new.write(at_c, "c", &[&new, &old]);
    let (mut a, _b) = couple(&files("a", at_a), &files("b", at_b)).await;
    let mut c = files("c", at_c).start();
    c.mesh.dial(a.address());
    until("the other authority is not trusted yet", || a.refused("unknown_authority") == 1).await;
    new.write(at_a, "a", &[&new, &old]);
    until("the new files are used", || {
        c.mesh.dial(a.address());
        c.mesh.rtt("a").is_some()
    })
    .await;
    tokio::join!(a.connected("c"), c.connected("a"));
    assert!(a.mesh.rtt("b").is_some(), "running connections keep what they began with");
}

#[tokio::test]
async fn a_certificate_for_another_node_does_not_start() {
    let authority = Authority::new("any");
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "somebody", &[&authority]);
    let Identity::Files { .. } = files("a", folder.path()).identity else { unreachable!() };
    let error = tidegate::cluster::transport::identity::Credentials::load(&files("a", folder.path()).identity, "a");
    assert!(error.unwrap_err().to_string().contains("somebody"));
}

//! The queue on a real clock and real sockets: entries reach a log server in order and in batches.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::plugin::testing::sink::LogServer;
use crate::plugin::testing::tools::{FakeTools, ToolScript};
use crate::plugin::tools::Tools;

/// Sends each batch as one line over a connection of its own, and says how many attempts there were.
struct Lines {
    address: SocketAddr,
    attempts: watch::Sender<usize>,
}

impl Lines {
    fn to(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, attempts: watch::Sender::new(0) })
    }

    async fn attempted(&self, count: usize) {
        self.attempts.subscribe().wait_for(|made| *made >= count).await.unwrap();
    }
}

impl Sink<u32> for Lines {
    fn deliver(&self, batch: Arc<[u32]>) -> BoxFuture<'static, Result<(), String>> {
        let address = self.address;
        self.attempts.send_modify(|made| *made += 1);
        Box::pin(async move {
            let send = async {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(format!("{batch:?}\n").as_bytes()).await?;
                stream.shutdown().await
            };
            send.await.map_err(|error: std::io::Error| error.to_string())
        })
    }
}

/// A sink that never finishes.
struct Stuck;

impl Sink<u32> for Stuck {
    fn deliver(&self, _: Arc<[u32]>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(std::future::pending())
    }
}

fn options(batch: usize) -> QueueOptions {
    let retry = Duration::from_millis(5);
    QueueOptions {
        max_batch_size: batch,
        initial_retry_delay: retry,
        max_retry_delay: retry,
        ..QueueOptions::default()
    }
}

#[tokio::test]
async fn entries_arrive_in_order_and_in_batches() {
    let (node, server) = (FakeTools::new(ToolScript::default()), LogServer::start().await);
    let queue = Queue::start(&*node, "test".into(), options(3), Lines::to(server.address));
    let workers = (0..2).map(|worker| {
        let queue = queue.clone();
        std::thread::spawn(move || (0..3).for_each(|entry| queue.push(worker * 10 + entry, 1)))
    });
    workers.for_each(|worker| worker.join().unwrap());
    assert_eq!(server.lines(2).await, ["[0, 1, 2]", "[10, 11, 12]"]);
    node.stop().await;
    assert_eq!(queue.totals(), QueueTotals { pushed: 6, delivered: 6, ..QueueTotals::default() });
}

#[tokio::test]
async fn entries_arrive_after_the_server_was_away() {
    let (node, first) = (FakeTools::new(ToolScript::default()), LogServer::start().await);
    let address = first.address;
    let lines = Lines::to(address);
    let queue = Queue::start(&*node, "test".into(), options(1), lines.clone());
    queue.push(1, 1);
    assert_eq!(first.lines(1).await, ["[1]"]);
    drop(first);
    // The port is closed once a connection is refused.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    (2..5).for_each(|entry| queue.push(entry, 1));
    lines.attempted(4).await;
    let second = LogServer::start_at(address).await;
    assert_eq!(second.lines(3).await, ["[2]", "[3]", "[4]"]);
    node.stop().await;
    assert_eq!(queue.totals().delivered, 4);
}

#[tokio::test(start_paused = true)]
async fn without_a_node_that_stops_what_is_left_ends_a_minute_after_the_plugin() {
    let node = FakeTools::new(ToolScript::default());
    let queue = Queue::start(&*node, "test".into(), options(1), Arc::new(Stuck));
    queue.push(1, 1);
    let (shared, begun) = (queue.0.0.clone(), now());
    drop(queue);
    while !shared.core().is_over() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((ORPHAN_LIMIT..ORPHAN_LIMIT * 2).contains(&(now() - begun)));
    assert_eq!(shared.core().totals().dropped_closed, 1);
}

#[tokio::test]
async fn a_new_sink_gets_what_waits_already() {
    let (node, server) = (FakeTools::new(ToolScript::default()), LogServer::start().await);
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = Lines::to(refusing);
    let queue = Queue::start(&*node, "test".into(), options(1), nowhere.clone());
    queue.push(1, 1);
    nowhere.attempted(2).await;
    queue.set_sink(Lines::to(server.address));
    assert_eq!(server.lines(1).await, ["[1]"]);
}

#[tokio::test]
async fn what_is_coalesced_is_sent_when_the_node_stops_or_the_plugin_is_gone() {
    let slow = QueueOptions { max_coalescing_delay: Duration::from_secs(3_000), ..options(100) };
    let (node, server) = (FakeTools::new(ToolScript::default()), LogServer::start().await);
    let sink = Lines::to(server.address);
    let (stopped, orphaned) = (
        Queue::start(&*node, "stopped".into(), slow.clone(), sink.clone()),
        Queue::start(&*node, "orphaned".into(), slow, sink),
    );
    orphaned.push(1, 1);
    drop(orphaned.clone());
    orphaned.push(2, 1);
    drop(orphaned);
    assert_eq!(server.lines(1).await, ["[1, 2]"]);
    stopped.push(3, 1);
    node.stop().await;
    assert_eq!(server.lines(2).await, ["[1, 2]", "[3]"]);
    stopped.push(4, 1);
    assert_eq!(stopped.totals(), QueueTotals { pushed: 2, delivered: 1, dropped_closed: 1, ..QueueTotals::default() });
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_holds_up_the_end_for_a_bounded_time() {
    let node = FakeTools::new(ToolScript::default());
    let queue = Queue::start(&*node, "test".into(), options(1), Arc::new(Stuck));
    (0..3).for_each(|entry| queue.push(entry, 1));
    let begun = now();
    node.stop().await;
    // The runtime's timers are exact to a millisecond.
    assert!((SHUTDOWN_LIMIT..SHUTDOWN_LIMIT + Duration::from_millis(2)).contains(&(now() - begun)));
    assert_eq!(queue.totals().dropped_closed, 3);
}

#[test]
fn without_tasks_everything_is_dropped_and_counted() {
    let queue = Queue::start(&*Tools::none().tasks, "test".into(), options(1), Arc::new(Stuck));
    queue.push(1, 1);
    assert_eq!(queue.totals(), QueueTotals { pushed: 1, dropped_closed: 1, ..QueueTotals::default() });
}

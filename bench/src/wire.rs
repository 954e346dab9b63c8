//! Load and backend in one thread with one epoll.
//!
//! Both sit on the core that no gateway runs on. In one loop they cost each request four system calls and no switch
//! between tasks or threads, so that the gateway and not the load is what gives out first. The load is closed (each of N
//! connections sends again once it is answered) or open (requests are due at a fixed rate; one that finds no free
//! connection waits, and its wait counts). An open load does not sleep between requests: it looks for events all the
//! time, as it has the core for itself. One that another thread ends shares the core with that thread, and lets it run
//! whenever there is nothing to do: if it kept the core, the thread would get it for a slice of the scheduler, and what
//! came back meanwhile would look late.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::Outcome;
use crate::message::{self, Message};

/// What is sent, and how.
pub struct Load<'l> {
    pub address: SocketAddr,
    /// Sent in turn.
    pub requests: &'l [Vec<u8>],
    /// Length of the body that each answer must have.
    pub answer_len: usize,
    pub connections: usize,
    /// Each request gets a connection of its own, and is complete when the gateway has closed it.
    pub connection_per_request: bool,
    /// A connection is used again only after an answer with `Connection: keep-alive`, as an HTTP/1.0 client does.
    pub keep_alive_by_field: bool,
    /// Requests per second; `None`: as many as are answered.
    pub rate: Option<f64>,
    pub lasts: Duration,
    /// Ends it earlier, when set.
    pub until: Option<&'l AtomicBool>,
}

/// What a load came to.
#[derive(Default)]
pub struct Done {
    pub answered: usize,
    /// No answer, a broken one, or one that is no 200 of the right length.
    pub failed: usize,
    pub seconds: f64,
    /// From when a request was due until its answer was there; sorted.
    pub took_us: Vec<u32>,
}

impl Done {
    /// What that share of the requests did not take longer than; not a number when there were none.
    pub fn percentile_us(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position in a list")]
        let at = (self.took_us.len() as f64 * share) as usize;
        self.took_us.get(at).or(self.took_us.last()).copied().map_or(f64::NAN, f64::from)
    }
}

/// The loop and all its connections.
pub struct Wire {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    pub backend: SocketAddr,
    answer: Vec<u8>,
    seats: Vec<Seat>,
    free: Vec<usize>,
    buffer: Box<[u8]>,
}

enum Seat {
    Free,
    Backend(Server),
    Load(Client),
}

/// A gateway's connection to the backend.
struct Server {
    stream: TcpStream,
    request: Message,
    /// Bytes of the answer that are yet to be written.
    unwritten: usize,
}

/// A connection of the load.
struct Client {
    stream: TcpStream,
    state: State,
    answer: Message,
}

enum State {
    Idle,
    /// Position of the request and what of it was written; when it was due.
    Busy {
        request: usize,
        written: usize,
        due: Instant,
    },
    /// Complete but for the end of the connection.
    Closing {
        due: Instant,
    },
}

/// What became of a client's connection.
enum Turn {
    Same,
    Answered {
        due: Instant,
        reusable: bool,
    },
    Failed,
    /// Closed by the gateway while nothing was under way.
    Gone,
}

const LISTENER: Token = Token(usize::MAX);
/// Answers that are waited for after the load has ended.
const GRACE: Duration = Duration::from_secs(5);
/// A load with more failures than this is given up.
const FAILED_MAX: usize = 10_000;

impl Wire {
    /// Opens the backend. Its answers have bodies of `answer_len` bytes until [`Wire::answer_with`] or
    /// [`Wire::answer_in_chunks`] changes that.
    pub fn open(answer_len: usize) -> io::Result<Wire> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let backend = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut wire = Wire {
            poll,
            events: Events::with_capacity(256),
            listener,
            backend,
            answer: Vec::new(),
            seats: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; 256 * 1024].into(),
        };
        wire.answer_with(answer_len);
        Ok(wire)
    }

    /// Sets what the backend answers to every request.
    pub fn answer_with(&mut self, body_len: usize) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body_len}\r\n\r\n");
        self.answer = head.into_bytes();
        self.answer.resize(self.answer.len() + body_len, b'x');
    }

    /// Lets the backend answer every request with a chunked body of `body_len` bytes in chunks of `chunk_len` bytes.
    pub fn answer_in_chunks(&mut self, body_len: usize, chunk_len: usize) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.answer = head.as_bytes().to_vec();
        message::push_chunked(&mut self.answer, body_len, chunk_len);
    }

    /// Serves the backend until `ended` says so; it is asked after each batch of events, at least every 10 ms.
    pub fn serve_until(&mut self, mut ended: impl FnMut() -> io::Result<bool>) -> Outcome<()> {
        while !ended()? {
            self.turn(Some(Duration::from_millis(10)), None)?;
        }
        Ok(())
    }

    /// Sends a load, and serves the backend meanwhile.
    pub fn send(&mut self, load: &Load<'_>) -> Outcome<Done> {
        let mut run = Run { load, next: 0, started: 0, idle: VecDeque::new(), open: 0, done: Done::default() };
        run.done.took_us.reserve(1 << 18);
        let begun = Instant::now();
        let mut ends = begun + load.lasts;
        let mut under_way = 0;
        loop {
            let now = Instant::now();
            if load.until.is_some_and(|until| until.load(Ordering::Relaxed)) {
                ends = ends.min(now);
            }
            if now < ends {
                self.keep_open(&mut run)?;
                self.start_due(&mut run, &mut under_way, begun, now)?;
            } else if under_way == 0 || now > ends + GRACE {
                break;
            }
            let wait = if load.rate.is_some() { Duration::ZERO } else { Duration::from_millis(10) };
            let before = (run.done.answered, run.done.failed);
            self.turn(Some(wait), Some(&mut run))?;
            let settled = (run.done.answered - before.0) + (run.done.failed - before.1);
            under_way -= settled;
            if settled == 0 && load.until.is_some() {
                std::thread::yield_now();
            }
            if run.done.failed > FAILED_MAX {
                return Err(format!("{} requests failed, {} did not", run.done.failed, run.done.answered).into());
            }
        }
        run.done.failed += under_way;
        run.done.seconds = begun.elapsed().as_secs_f64();
        self.drop_clients();
        run.done.took_us.sort_unstable();
        Ok(run.done)
    }

    /// Opens connections until there are as many as wanted. With a connection per request they are opened by the
    /// request instead.
    fn keep_open(&mut self, run: &mut Run<'_>) -> io::Result<()> {
        while !run.load.connection_per_request && run.open < run.load.connections {
            let seat = self.connect(run.load.address)?;
            run.open += 1;
            run.idle.push_back(seat);
        }
        Ok(())
    }

    /// Sends what is due.
    fn start_due(&mut self, run: &mut Run<'_>, under_way: &mut usize, begun: Instant, now: Instant) -> io::Result<()> {
        let due = |number: usize| match run.load.rate {
            Some(rate) => begun + Duration::from_secs_f64(number as f64 / rate),
            None => now,
        };
        while due(run.started) <= now {
            let seat = if run.load.connection_per_request {
                if run.open >= run.load.connections {
                    return Ok(());
                }
                run.open += 1;
                self.connect(run.load.address)?
            } else {
                let Some(seat) = run.idle.pop_front() else { return Ok(()) };
                seat
            };
            let due = due(run.started);
            run.started += 1;
            *under_way += 1;
            self.begin(seat, run, due);
        }
        Ok(())
    }

    fn begin(&mut self, at: usize, run: &mut Run<'_>, due: Instant) {
        let Seat::Load(client) = &mut self.seats[at] else { return };
        client.state = State::Busy { request: run.next, written: 0, due };
        client.answer = Message::default();
        run.next = (run.next + 1) % run.load.requests.len();
        // What fails here shows as an event.
        let _ = client.write(run.load);
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<usize> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        self.seat(stream, |stream| Seat::Load(Client { stream, state: State::Idle, answer: Message::default() }))
    }

    fn seat(&mut self, mut stream: TcpStream, seated: impl FnOnce(TcpStream) -> Seat) -> io::Result<usize> {
        let at = self.free.pop().unwrap_or(self.seats.len());
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        match self.seats.get_mut(at) {
            Some(free) => *free = seated(stream),
            None => self.seats.push(seated(stream)),
        }
        Ok(at)
    }

    /// Waits for events once, and handles them.
    fn turn(&mut self, wait: Option<Duration>, mut run: Option<&mut Run<'_>>) -> Outcome<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, wait) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                self.accept()?;
                continue;
            }
            let at = event.token().0;
            match &mut self.seats[at] {
                Seat::Free => {}
                Seat::Backend(server) => {
                    if server.handle(event, &self.answer, &mut self.buffer).is_err() {
                        self.empty(at);
                    }
                }
                Seat::Load(client) => {
                    if let Some(run) = run.as_deref_mut() {
                        let turn = client.handle(event, run.load, &mut self.buffer);
                        self.settle(at, turn, run);
                    }
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn settle(&mut self, at: usize, turn: Turn, run: &mut Run<'_>) {
        match turn {
            Turn::Same => return,
            Turn::Answered { due, reusable } => {
                run.done.answered += 1;
                run.done.took_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                if reusable {
                    run.idle.push_back(at);
                    return;
                }
            }
            Turn::Failed => run.done.failed += 1,
            Turn::Gone => run.idle.retain(|idle| *idle != at),
        }
        run.open -= 1;
        self.empty(at);
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nodelay(true)?;
                    self.seat(stream, |stream| {
                        Seat::Backend(Server { stream, request: Message::default(), unwritten: 0 })
                    })?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn empty(&mut self, at: usize) {
        self.seats[at] = Seat::Free;
        self.free.push(at);
    }

    fn drop_clients(&mut self) {
        for at in 0..self.seats.len() {
            if matches!(self.seats[at], Seat::Load(_)) {
                self.empty(at);
            }
        }
    }
}

/// A load under way.
struct Run<'l> {
    load: &'l Load<'l>,
    /// Position of the request that is sent next.
    next: usize,
    started: usize,
    idle: VecDeque<usize>,
    open: usize,
    done: Done,
}

impl Server {
    /// An error ends the connection.
    fn handle(&mut self, event: &Event, answer: &[u8], buffer: &mut [u8]) -> io::Result<()> {
        if event.is_writable() && self.unwritten > 0 {
            self.write(answer)?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        loop {
            let Some(len) = read(&mut self.stream, buffer)? else { return Ok(()) };
            if self.request.take(&buffer[..len]).ok_or(ErrorKind::InvalidData)? {
                self.request = Message::default();
                self.unwritten = answer.len();
                self.write(answer)?;
            }
            if len < buffer.len() && !event.is_read_closed() {
                return Ok(());
            }
        }
    }

    fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        while self.unwritten > 0 {
            match write(&mut self.stream, &answer[answer.len().saturating_sub(self.unwritten)..])? {
                Some(len) => self.unwritten -= len,
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Client {
    fn handle(&mut self, event: &Event, load: &Load<'_>, buffer: &mut [u8]) -> Turn {
        if event.is_writable() && self.write(load).is_err() {
            return Turn::Failed;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return Turn::Same;
        }
        loop {
            let len = match read(&mut self.stream, buffer) {
                Ok(Some(len)) => len,
                Ok(None) => return Turn::Same,
                Err(_) => return self.ended(load),
            };
            let State::Busy { due, .. } = self.state else { return Turn::Failed };
            let Some(complete) = self.answer.take(&buffer[..len]) else { return Turn::Failed };
            if complete {
                if load.connection_per_request {
                    self.state = State::Closing { due };
                    continue;
                }
                self.state = State::Idle;
                let head = self.answer.head_seen;
                let reusable = !head.closes && (head.keeps_alive || !load.keep_alive_by_field);
                return if self.is_right(load) { Turn::Answered { due, reusable } } else { Turn::Failed };
            }
            if len < buffer.len() && !event.is_read_closed() {
                return Turn::Same;
            }
        }
    }

    /// The gateway has closed the connection.
    fn ended(&self, load: &Load<'_>) -> Turn {
        match self.state {
            State::Closing { due } if self.is_right(load) => Turn::Answered { due, reusable: false },
            State::Closing { .. } | State::Busy { .. } => Turn::Failed,
            State::Idle => Turn::Gone,
        }
    }

    fn is_right(&self, load: &Load<'_>) -> bool {
        self.answer.head_seen.status == 200 && self.answer.body_len == load.answer_len
    }

    fn write(&mut self, load: &Load<'_>) -> io::Result<()> {
        let State::Busy { request, written, .. } = &mut self.state else { return Ok(()) };
        let bytes = &load.requests[*request];
        while *written < bytes.len() {
            match write(&mut self.stream, &bytes[*written..])? {
                Some(len) => *written += len,
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

/// `None`: nothing is there now. The end of the stream is an error.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(len) => Ok(Some(len)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None`: no more can be taken now.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    match stream.write(bytes) {
        Ok(len) => Ok(Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(None),
        Err(error) => Err(error),
    }
}

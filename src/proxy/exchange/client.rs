//! What an exchange needs of a client's connection, whatever that speaks.

use crate::http1::added::AddedHeaders;
use crate::http1::framing::Framing;
use crate::http1::response::ResponseHead;
use crate::proxy::exchange::held::HeldBody;
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::response_body::ResponseBody;
use crate::proxy::io::deadline::Deadline;
use crate::proxy::io::outgoing::Outgoing;
use crate::proxy::upstream::body_source::{BodySource, ClientFault};

/// A client's connection during one exchange.
pub trait Client: BodySource {
    /// How the request's body is framed.
    fn framing(&self) -> Framing;

    /// Reads the body until it is whole, or longer than `at_most` bytes; whether it is whole. What was read stays ready.
    async fn read_ahead(&mut self, at_most: usize) -> Result<bool, ClientFault>;

    /// Takes a body that is whole.
    fn take_body(&mut self) -> HeldBody;

    /// Takes the memory of a body that was sent.
    fn recycle(&mut self, body: HeldBody);

    /// Memory and timer that the upstream side uses meanwhile; `give_back` returns them.
    fn lend(&mut self) -> (Outgoing, Deadline);

    fn give_back(&mut self, lent: (Outgoing, Deadline));

    /// Begins the response. `framing`: of its body.
    fn send_head(&mut self, record: &Record, head: &mut ResponseHead, sent: Sent<'_, '_>);

    /// Sends the body. The exchange ends when `record` is dropped: a connection that sends later takes it.
    async fn send_body(&mut self, body: ResponseBody, record: &mut Option<Record>);

    /// The upstream has switched protocols: passes bytes in both directions until one side ends.
    async fn tunnel(&mut self, body: ResponseBody, record: &mut Option<Record>);

    /// Ends the exchange without a response.
    fn abandon(&mut self);
}

/// What is sent beside a response's own head.
pub struct Sent<'a, 'v> {
    pub added: &'a mut AddedHeaders<'v>,
    pub framing: Framing,
    /// The connection ends after this response.
    pub closes: bool,
    /// The response is the gateway's own.
    pub local: bool,
    /// The request's body is still being sent to the upstream.
    pub uploading: bool,
}

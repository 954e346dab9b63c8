//! The same tests once more, over the general path alone: `gateway` goes by the name of the test.

#[path = "endings.rs"]
mod endings;
#[path = "exchanges.rs"]
mod exchanges;
#[path = "framing.rs"]
mod framing;
#[path = "patience.rs"]
mod patience;
#[path = "protocols.rs"]
mod protocols;
#[path = "relaying.rs"]
mod relaying;

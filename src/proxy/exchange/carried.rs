//! What the plugins' part of an exchange carries from one phase to the next. Its memory serves one exchange after the other.

use bytes::Bytes;
use http::header::HeaderValue;
use uuid::Uuid;

use crate::http1::name::Name;
use crate::plugin::chain::Run;
use crate::plugin::directory::CredentialRef;
use crate::plugin::notes::Notes;
use crate::plugin::upward::Upward;

/// State between two phases.
#[derive(Default)]
pub struct Carried {
    pub run: Run,
    pub consumer: Option<Uuid>,
    pub credential: Option<CredentialRef>,
    pub body: Option<Bytes>,
    pub upward: Upward,
    pub response_headers: Vec<(&'static Name, HeaderValue)>,
    pub notes: Notes,
}

impl Carried {
    /// Empties it.
    pub fn clear(&mut self) {
        self.response_headers.clear();
        self.run.clear();
        self.upward.clear();
        self.notes.clear();
        (self.consumer, self.credential, self.body) = (None, None, None);
    }
}

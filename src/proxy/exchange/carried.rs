//! What the plugins' part of an exchange carries from one phase to the next. Its memory serves one exchange after the other.

use std::cell::{Ref, RefCell, RefMut};

use bytes::Bytes;
use http::header::HeaderValue;
use uuid::Uuid;

use crate::http1::name::Name;
use crate::plugin::chain::Run;
use crate::plugin::directory::CredentialRef;
use crate::plugin::notes::Notes;
use crate::plugin::upward::Upward;

/// State between two phases, behind a cell: the exchange's record hands its memory back when it is dropped.
#[derive(Default)]
pub struct Carried(RefCell<State>);

/// What is carried.
#[derive(Default)]
pub struct State {
    pub run: Run,
    pub consumer: Option<Uuid>,
    pub credential: Option<CredentialRef>,
    pub body: Option<Bytes>,
    pub upward: Upward,
    pub response_headers: Vec<(&'static Name, HeaderValue)>,
    pub notes: Notes,
}

impl Carried {
    pub fn state(&self) -> Ref<'_, State> {
        self.0.borrow()
    }

    pub fn state_mut(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.0.get_mut().clear();
    }
}

impl State {
    fn clear(&mut self) {
        self.response_headers.clear();
        self.run.clear();
        self.upward.clear();
        self.notes.clear();
        (self.consumer, self.credential, self.body) = (None, None, None);
    }
}

//! One property of the settings: what is declared about it, and how its text is read.

use crate::node::settings::value::{Form, Value};

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    pub name: &'static str,
    pub form: Form,
    /// What holds when nobody says anything; empty: unset.
    pub default: &'static str,
    pub secret: bool,
    pub effect: Effect,
}

/// What a property does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It works.
    Here,
    /// Kong has it and it means nothing here. It is never refused, and named once at start when it is set to
    /// something else than the default given here.
    None,
}

impl Property {
    /// Reads `text`; the error is Kong's sentence.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        if text.is_empty() {
            return Ok(Value::Unset);
        }
        match self.form.read(self.name, text) {
            Err(_) if self.effect == Effect::None => Ok(Value::Text(text.to_owned())),
            read => read,
        }
    }
}

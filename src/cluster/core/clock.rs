//! The hybrid logical clock that stamps writes of the embedded store.

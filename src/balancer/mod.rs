//! Chooses which address of an origin a try goes to.

//! A cluster in one thread: the production cores under a virtual clock, with faults that a seed decides.
//!
//! `SEED=7 cargo test --test sim NAME` repeats the run that a failure named. Tests are named after the failures they
//! stand for; the number is the item's in the list of what goes wrong in practice. After every step the world holds that
//! what a node applied only grows (I9), that frames come from whom they claim (I11) and that nobody runs in circles (I12);
//! tests end with all nodes equal (I10) and equal to what was acknowledged (I9).

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod chaos;
mod configuration;
mod database;
mod figures;
mod limits;
#[path = "limits/failures.rs"]
mod limits_failures;
#[path = "limits/figures.rs"]
mod limits_figures;
#[path = "limits/fuzz.rs"]
mod limits_fuzz;
mod membership;
mod node;
mod random;
mod regions;
mod strict;
mod world;

//! The store in one file under `prefix`: redb, one writer thread.

//! The local snapshot under `prefix`: what a node serves from while its store is away. Temp file, fsync, rename, two
//! generations.

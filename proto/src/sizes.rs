//! The bounds of what is in a frame.

/// The longest frame of any kind, in bytes; more is refused before anything is allocated for it. It leaves room for the
/// largest document that the Admin API accepts by default (10 MB). See `Kind::len_max` for the kinds' own bounds.
pub const FRAME_LEN_MAX: usize = 16 << 20;
/// The longest `Records` before compression, in bytes.
pub const RECORDS_LEN_MAX: usize = FRAME_LEN_MAX;
/// The longest name: a node, an origin, a kind of entity. Bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest cluster id, address, region and program version, in bytes.
pub const TEXT_LEN_MAX: usize = 128;
/// Most spans in a frame. How many changes a span has is bounded by the frame's length.
pub const SPANS_MAX: usize = 1_000;
/// Most different kinds of entities in a frame.
pub const KINDS_MAX: usize = 256;
/// Most members in a `More`.
pub const MORE_MAX: usize = 64;
/// Most origins in a vector. A cluster that has seen more writers than this cannot tell where it stands any more: frames
/// with the vector fail to encode.
pub const ORIGINS_MAX: usize = 4_096;

//! What each `Check` and `Format` accepts, and its message.

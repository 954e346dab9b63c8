//! TCP and TLS sessions (layer 4). Empty: stream listeners are not served yet; plugins have the phase `preread` for them.

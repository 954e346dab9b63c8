//! No store: the configuration is a declarative file or what `POST /config` brought.

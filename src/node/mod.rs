//! Assembly: settings, publisher, tasks, telemetry, the command line.

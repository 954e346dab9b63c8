//! Header names that the data plane writes, and those that it looks for and the `http` crate does not know.

use crate::http1::name::{Name, name};

macro_rules! names {
    ($($constant:ident = $lower:literal;)*) => {
        $(pub static $constant: Name = name!($lower);)*
    };
}

names! {
    CONNECTION = "connection";
    SERVER = "server";
    TE = "te";
    UPGRADE = "upgrade";
    VIA = "via";
    X_REAL_IP = "x-real-ip";
    X_FORWARDED_FOR = "x-forwarded-for";
    X_FORWARDED_PROTO = "x-forwarded-proto";
    X_FORWARDED_HOST = "x-forwarded-host";
    X_FORWARDED_PORT = "x-forwarded-port";
    X_FORWARDED_PATH = "x-forwarded-path";
    X_FORWARDED_PREFIX = "x-forwarded-prefix";
    REQUEST_ID = "x-kong-request-id";
    PROXY_LATENCY = "x-kong-proxy-latency";
    UPSTREAM_LATENCY = "x-kong-upstream-latency";
    RESPONSE_LATENCY = "x-kong-response-latency";
    UPSTREAM_STATUS = "x-kong-upstream-status";
    DEBUG = "kong-debug";
    ROUTE_ID = "kong-route-id";
    ROUTE_NAME = "kong-route-name";
    SERVICE_ID = "kong-service-id";
    SERVICE_NAME = "kong-service-name";
    GRPC_STATUS = "grpc-status";
    GRPC_MESSAGE = "grpc-message";
}

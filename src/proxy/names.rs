//! Header names that the data plane writes, and those that it looks for and the `http` crate does not know.

use http::HeaderName;

/// A name of ours, ready to be written.
pub struct Name {
    pub header: HeaderName,
    /// As upstreams see it.
    pub lower: &'static str,
    /// As clients of HTTP/1 see it.
    pub capitalised: &'static str,
    pub mark: u64,
}

macro_rules! names {
    ($($constant:ident = $lower:literal $capitalised:literal;)*) => {
        $(pub static $constant: Name = Name {
            header: HeaderName::from_static($lower),
            lower: $lower,
            capitalised: $capitalised,
            mark: mark($lower.as_bytes()),
        };)*

        #[cfg(test)]
        static ALL: &[&Name] = &[$(&$constant),*];
    };
}

names! {
    CONNECTION = "connection" "Connection";
    SERVER = "server" "Server";
    TE = "te" "Te";
    UPGRADE = "upgrade" "Upgrade";
    VIA = "via" "Via";
    X_REAL_IP = "x-real-ip" "X-Real-Ip";
    X_FORWARDED_FOR = "x-forwarded-for" "X-Forwarded-For";
    X_FORWARDED_PROTO = "x-forwarded-proto" "X-Forwarded-Proto";
    X_FORWARDED_HOST = "x-forwarded-host" "X-Forwarded-Host";
    X_FORWARDED_PORT = "x-forwarded-port" "X-Forwarded-Port";
    X_FORWARDED_PATH = "x-forwarded-path" "X-Forwarded-Path";
    X_FORWARDED_PREFIX = "x-forwarded-prefix" "X-Forwarded-Prefix";
    REQUEST_ID = "x-kong-request-id" "X-Kong-Request-Id";
    PROXY_LATENCY = "x-kong-proxy-latency" "X-Kong-Proxy-Latency";
    UPSTREAM_LATENCY = "x-kong-upstream-latency" "X-Kong-Upstream-Latency";
    RESPONSE_LATENCY = "x-kong-response-latency" "X-Kong-Response-Latency";
    UPSTREAM_STATUS = "x-kong-upstream-status" "X-Kong-Upstream-Status";
    DEBUG = "kong-debug" "Kong-Debug";
    ROUTE_ID = "kong-route-id" "Kong-Route-Id";
    ROUTE_NAME = "kong-route-name" "Kong-Route-Name";
    SERVICE_ID = "kong-service-id" "Kong-Service-Id";
    SERVICE_NAME = "kong-service-name" "Kong-Service-Name";
    GRPC_STATUS = "grpc-status" "Grpc-Status";
    GRPC_MESSAGE = "grpc-message" "Grpc-Message";
}

/// A bit that equal names share, however they are spelled, and few others: most names need no search.
pub const fn mark(name: &[u8]) -> u64 {
    let first = if name.is_empty() { 0 } else { name[0] | 0x20 };
    1 << ((name.len() + 29 * first as usize) % 64)
}

/// `x-real-ip` becomes `X-Real-Ip`.
pub fn capitalise(name: &mut [u8]) {
    for at in 0..name.len() {
        if at == 0 || name[at - 1] == b'-' {
            name[at].make_ascii_uppercase();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_name_are_of_the_same_name() {
        for name in ALL {
            let mut capitalised = name.lower.as_bytes().to_vec();
            capitalise(&mut capitalised);
            assert_eq!(capitalised, name.capitalised.as_bytes());
            assert_eq!((name.header.as_str(), name.mark), (name.lower, mark(name.capitalised.as_bytes())));
        }
    }
}

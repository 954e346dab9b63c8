//! Routes of three shapes in turn, by host, by prefix and by header, and for each a request that it takes.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use tidegate::router::compiled::{Compiled, compile};
use tidegate::router::{Query, Router, Rule};
use uuid::Uuid;

use crate::Outcome;

/// The router of so many routes.
pub fn router(routes: usize) -> Outcome<Router> {
    let compiled = (0..routes).map(|number| compile(&rule(number)).map(Arc::new));
    let compiled: Vec<Arc<Compiled>> = compiled.collect::<Result<_, _>>().map_err(|uncompiled| uncompiled.why)?;
    Ok(Router::build(&compiled))
}

fn rule(number: usize) -> Rule {
    let mut rule = Rule { id: Uuid::from_u128(number as u128 + 1), ..Rule::default() };
    match number % 3 {
        0 => rule.hosts = vec![host(number)],
        1 => rule.paths = vec![prefix(number)],
        _ => {
            rule.paths = vec!["/shared".to_owned()];
            rule.headers = vec![("x-tenant".to_owned(), vec![number.to_string()])];
        }
    }
    rule
}

fn host(number: usize) -> String {
    format!("shop{number}.example.com")
}

fn prefix(number: usize) -> String {
    format!("/tenant-{number}/api")
}

/// As the router sees it.
pub struct Request {
    pub number: usize,
    host: String,
    path: String,
    headers: HeaderMap,
}

impl Request {
    /// For the route with this number.
    pub fn of(number: usize) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("bench"));
        headers.insert("x-tenant", number.into());
        let host = if number.is_multiple_of(3) { host(number) } else { "any.example.com".to_owned() };
        let path = match number % 3 {
            0 => format!("/items/{number}"),
            1 => format!("{}/items/{number}", prefix(number)),
            _ => format!("/shared/items/{number}"),
        };
        Request { number, host, path, headers }
    }

    pub fn query(&self) -> Query<'_> {
        let Request { host, path, headers, .. } = self;
        Query { method: "GET", host, path: path.as_bytes(), headers, sni: None, port: 80 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_route_takes_its_request() {
        let router = router(1_000).unwrap();
        for number in 0..1_000 {
            assert_eq!(router.find(&Request::of(number).query()).unwrap().rule, number);
        }
    }
}

//! What a demo writes into its cluster, and what it tells whoever watches.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::node::demo::region::Region;

/// Paths and forms, in the order in which they are posted.
pub fn entities(upstream: SocketAddr) -> [(&'static str, String); 6] {
    [
        ("/services", format!("name=hello&url=http://{upstream}")),
        ("/services/hello/routes", "name=hello&paths[]=/".to_owned()),
        ("/services/hello/plugins", "name=key-auth&config.key_names[]=apikey".to_owned()),
        ("/consumers", "username=ann".to_owned()),
        ("/consumers/ann/key-auth", "key=key-of-ann".to_owned()),
        (
            "/services/hello/plugins?wait=all&timeout_ms=30000",
            "name=rate-limiting&instance_name=ann-limit&config.minute=10&config.policy=cluster".to_owned(),
        ),
    ]
}

/// The lines to try, each with what to expect of it. Lines for a shell are indented by four spaces, nothing else is.
pub fn guide(regions: &[Region]) -> String {
    let mut text = "\nThree regions, one cluster:\n\n".to_owned();
    for region in regions {
        let (ports, pid) = (&region.ports, region.pid().unwrap_or_default());
        let _ = writeln!(
            text,
            "  {}   proxy http://{}   Admin API http://{}   process {pid}",
            ports.name, ports.proxy, ports.admin
        );
    }
    let [first, middle, last] = regions else { return text };
    let proxies: Vec<String> = regions.iter().map(|region| region.ports.proxy.to_string()).collect();
    let (proxies, key) = (proxies.join(" "), "-H 'apikey: key-of-ann'");
    let (proxy, admin) = (first.ports.proxy, first.ports.admin);
    let (far, far_admin) = (last.ports.proxy, last.ports.admin);
    let (lost, lost_pid) = (middle.ports.name, middle.pid().unwrap_or_default());
    let _ = write!(
        text,
        "
Ann may make 10 requests a minute, in all regions together. In another terminal:

1. Fifteen requests of hers, around the world: ten times 200, then 429 in every region.
   (A minute is one of the clock: when it turns, there are ten more.)

    for i in 1 2 3 4 5; do for at in {proxies}; do curl -so /dev/null -w \"$at %{{http_code}}\\n\" http://$at/ {key}; done; done

2. What is left of the minute is in the headers, the same everywhere; without a key it is 401.

    curl -i http://{far}/ {key}
    curl -i http://{proxy}/

3. What the regions count, own and others' requests apart, as {last_name} sees it:

    curl -s http://{far_admin}/cluster/limits

4. A change in {first_name} is live in all regions when it is answered: now it is 20 a minute.

    curl -s -X PATCH 'http://{admin}/plugins/ann-limit?wait=all' -d config.minute=20

5. Lose {lost}: the others go on, and say so.

    kill -9 {lost_pid}; sleep 10; curl -s http://{admin}/cluster

Ctrl-C ends all of it and leaves nothing behind.
",
        first_name = first.ports.name,
        last_name = last.ports.name,
    );
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::node::demo::ports;

    #[test]
    fn lines_for_a_shell_can_be_told_apart() {
        let regions = ports::pick().unwrap().map(|ports| Region::plan(ports, Path::new("/")));
        let text = guide(&regions);
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        let beginnings: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(beginnings, ["for", "curl", "curl", "curl", "curl", "kill"], "{text}");
        assert!(regions.iter().all(|region| lines[0].contains(&region.ports.proxy.to_string())), "{text}");
    }
}

//! Where nodes are, and how long the way between them takes.

/// Fly's regions, those of today first, then those that were: code, latitude, longitude.
pub const REGIONS: &[(&str, f64, f64)] = &[
    ("ams", 52.374342, 4.895439),
    ("arn", 59.6512, 17.9178),
    ("bom", 19.097403, 72.874245),
    ("cdg", 48.860875, 2.353477),
    ("dfw", 32.778287, -96.7984),
    ("ewr", 40.789543, -74.05653),
    ("fra", 50.1167, 8.6833),
    ("gru", -23.549664, -46.65435),
    ("iad", 39.02214, -77.462556),
    ("jnb", -26.13629, 28.20298),
    ("lax", 33.9416, -118.4085),
    ("lhr", 51.516434, -0.125656),
    ("nrt", 35.62161, 139.74185),
    ("ord", 41.891544, -87.63039),
    ("sin", 1.3, 103.8),
    ("sjc", 37.3516, -121.89674),
    ("syd", -33.86603, 151.20693),
    ("yyz", 43.64463, -79.38423),
    ("atl", 33.6407, -84.4277),
    ("den", 39.7392, -104.9847),
    ("mia", 25.7877, -80.2241),
    ("gdl", 20.5217, -103.3109),
    ("qro", 20.62, -100.1863),
    ("bos", 42.366978, -71.02236),
    ("phx", 33.416084, -112.00948),
    ("sea", 47.6097, -122.3331),
    ("yul", 45.48647, -73.75549),
    ("waw", 52.1657, 20.9671),
    ("mad", 40.4381, -3.82),
    ("otp", 44.4325, 26.1039),
    ("bog", 4.70159, -74.1469),
    ("gig", -22.8099, -43.2505),
    ("scl", -33.36572, -70.64292),
    ("eze", -34.8222, -58.5358),
    ("hkg", 22.25097, 114.203224),
];

/// The round trip between two regions in microseconds: km / 75 + 2 ms.
pub fn rtt_us(a: usize, b: usize) -> u64 {
    let ((_, lat_a, lon_a), (_, lat_b, lon_b)) = (REGIONS[a % REGIONS.len()], REGIONS[b % REGIONS.len()]);
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let angle = half(lat_a, lat_b) + lat_a.to_radians().cos() * lat_b.to_radians().cos() * half(lon_a, lon_b);
    let km = 2.0 * 6_371.0 * angle.sqrt().asin();
    ((km / 75.0 + 2.0) * 1_000.0) as u64
}

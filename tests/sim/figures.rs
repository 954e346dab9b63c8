//! Figures that have a bound: 35 nodes, each in another of Fly's regions.

use crate::configuration::cluster;
use crate::random::seeds;
use crate::regions::{REGIONS, rtt_us};
use crate::world::World;

const COUNT: usize = 35;

#[test]
fn the_matrix_is_the_one_that_was_measured() {
    let of = |code: &str| REGIONS.iter().position(|(other, ..)| *other == code).unwrap();
    assert_eq!(rtt_us(of("gru"), of("nrt")) / 1_000, 249);
    assert_eq!(rtt_us(of("cdg"), of("lhr")) / 100, 65);
}

#[test]
fn a_write_is_everywhere_within_250_ms_at_35_nodes_and_one_percent_loss() {
    let mut times = Vec::new();
    let mut world = cluster(COUNT, 35, false);
    world.faults.loss = 0.01;
    world.run_ms(3_000);
    world.commits.clear();
    for number in 0..120u32 {
        let writer = world.random.below(COUNT);
        world.write(writer, (number % 50) as u8, &format!("{number}"));
        world.run_ms(400);
    }
    world.run_ms(2_000);
    for commit in &world.commits {
        assert!(commit.missing.is_empty(), "not everywhere: {:?}", commit.missing);
        times.push((commit.done_us - commit.at_us) / 1_000);
    }
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100];
    println!(
        "35 nodes, 1 % loss, {} commits: p50 {} ms, p99 {} ms, max {} ms",
        times.len(),
        at(50),
        at(99),
        at(100 - 1)
    );
    println!("pulls {}, wholes {}", world.pulls, world.wholes);
    assert!(at(99) <= 250, "p99 {} ms", at(99));
}

#[test]
fn a_partition_of_sixty_seconds_at_35_nodes_heals_within_a_second() {
    seeds(1, |seed| {
        let mut world = cluster(COUNT, seed, false);
        let (one, other): (Vec<usize>, Vec<usize>) = (0..COUNT).partition(|index| index % 2 == 0);
        world.partition(&[&one, &other]);
        for number in 0..20u8 {
            world.write(usize::from(number) % COUNT, number, "on both sides");
        }
        world.run_ms(60_000);
        world.heal();
        let healed_ms = world.settle_ms(1_000);
        println!("35 nodes, 60 s apart: equal {healed_ms} ms after healing");
        world.assert_oracle();
    });
}

#[test]
fn idle_traffic_at_35_nodes_stays_below_16_kb_a_second() {
    let mut world = cluster(COUNT, 1, false);
    for number in 0..35u8 {
        world.write(usize::from(number), number, "each has written");
    }
    world.run_ms(5_000);
    world.measures = true;
    world.run_ms(10_000);
    let most = world.bytes.iter().max().unwrap() / 10;
    println!("35 nodes, idle: at most {most} bytes/s sent by a node");
    assert!(most <= 16 * 1_024, "{most} bytes/s");
}

#[test]
fn a_joining_node_is_alive_and_equal_soon() {
    let mut world = World::new(COUNT, 5, false);
    world.crash(34);
    world.run_ms(6_000);
    for number in 0..200u32 {
        world.write((number % 30) as usize, (number % 250) as u8, "there before");
    }
    world.run_ms(2_000);
    world.start(34);
    let joined_ms = world.settle_ms(3_000);
    println!("35 nodes, one joins: equal after {joined_ms} ms");
    world.assert_oracle();
}

//! Everything at once: many seeds, each a different history of faults; then peace, and all have to agree.

use crate::configuration::cluster;
use crate::random::seeds;
use crate::world::World;

fn misfortune(world: &mut World, disks_die: bool) {
    let count = world.nodes.len();
    let node = world.random.below(count);
    match world.random.below(12) {
        0 => world.crash(node),
        1 | 2 if world.nodes[node].process.is_none() => world.start(node),
        3 if disks_die && world.nodes[node].process.is_none() => world.nodes[node].lose_disk(),
        4 => {
            let edge = world.random.below(count);
            world.partition(&[&(0..edge).collect::<Vec<_>>(), &(edge..count).collect::<Vec<_>>()]);
        }
        5 => drop(world.faults.cuts.insert((node, (node + 1) % count))),
        6 => world.faults.cuts.clear(),
        7 => world.faults.loss = world.random.between(0, 30) as f64 / 100.0,
        8 => (world.faults.duplication, world.faults.reordering_us) = (0.3, 400_000),
        9 => world.nodes[node].skew_ms = world.random.between(0, 20_000) as i64 - 10_000,
        10 => world.nodes[node].stopped_until_us = world.now_us + world.random.between(0, 5_000_000),
        11 => {
            if let Some(database) = &mut world.database {
                database.up = !database.up;
            } else {
                world.nodes[node].disk_fails = !world.nodes[node].disk_fails;
            }
        }
        _ => {}
    }
}

fn history(seed: u64, postgres: bool, disks_die: bool) {
    let mut world = cluster(5, seed, postgres);
    let mut copy = world.database.clone();
    for number in 0..120 {
        if world.random.chance(0.3) {
            misfortune(&mut world, disks_die);
        }
        if postgres && world.random.chance(0.02) {
            world.database = copy.clone();
        } else if world.random.chance(0.05) {
            copy = world.database.clone();
        }
        let (writer, id) = (world.random.below(5), world.random.below(8) as u8);
        let text = if number % 4 == 0 { String::new() } else { format!("{number}") };
        world.write(writer, id, &text);
        let pause_ms = world.random.between(0, 500);
        world.run_ms(pause_ms);
    }
    peace(&mut world);
    world.settle_ms(15_000);
    if !disks_die {
        world.assert_oracle();
    }
    world.wait_ms(15_000, "one cluster", World::is_one_cluster);
    assert!(world.expelled.is_empty(), "an honest peer was expelled: {:?}", world.expelled);
}

fn peace(world: &mut World) {
    world.heal();
    if let Some(database) = &mut world.database {
        database.up = true;
    }
    for index in 0..world.nodes.len() {
        world.nodes[index].disk_fails = false;
        if world.nodes[index].process.is_none() {
            world.start(index);
        }
    }
    if world.database.is_some() {
        // Whoever watches the database has to look once.
        world.run_ms(2_000);
    }
}

#[test]
fn embedded_histories_of_faults_end_equal() {
    seeds(40, |seed| history(seed, false, false));
}

#[test]
fn embedded_histories_with_lost_disks_end_equal() {
    seeds(30, |seed| history(seed, false, true));
}

#[test]
fn histories_with_a_database_that_fails_and_goes_backwards_end_equal() {
    seeds(40, |seed| history(seed, true, false));
}

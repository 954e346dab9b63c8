//! Failures of the configuration's way: 15 to 24.

use std::collections::BTreeMap;

use crate::random::seeds;
use crate::world::World;

/// A cluster that has found itself.
pub fn cluster(count: usize, seed: u64, postgres: bool) -> World {
    let mut world = World::new(count, seed, postgres);
    world.wait_ms(10_000, "one cluster", World::is_one_cluster);
    world
}

#[test]
fn s15_transactions_of_many_writers_arrive_in_the_order_of_commits() {
    seeds(5, |seed| {
        let mut world = cluster(5, seed, true);
        (world.faults.loss, world.faults.reordering_us) = (0.05, 200_000);
        for number in 0..100u32 {
            let writer = world.random.below(5);
            assert!(world.write(writer, (number % 7) as u8, &format!("{number}")));
            let pause_ms = world.random.between(0, 30);
            world.run_ms(pause_ms);
        }
        world.heal();
        world.settle_ms(5_000);
        world.assert_oracle();
    });
}

#[test]
fn s16_a_crash_at_any_moment_after_a_write_loses_nothing_that_was_acknowledged() {
    seeds(40, |seed| {
        let mut world = cluster(3, seed, false);
        world.write(0, 1, "first");
        let pause_us = world.random.between(0, 150);
        world.run_ms(pause_us);
        world.write(0, 2, "second");
        let pause_ms = world.random.between(0, 60);
        world.run_ms(pause_ms);
        world.crash(0);
        world.write(1, 1, "third");
        let pause_ms = world.random.between(0, 9_000);
        world.run_ms(pause_ms);
        world.start(0);
        world.settle_ms(3_000);
        world.assert_oracle();
    });
}

#[test]
fn s17_a_database_replaced_by_an_older_copy_is_followed_within_five_seconds() {
    seeds(10, |seed| {
        let mut world = cluster(5, seed, true);
        for id in 0..20 {
            world.write(usize::from(id) % 5, id, "kept");
        }
        let copy = world.database.clone();
        for id in 0..30 {
            world.write(usize::from(id) % 5, id, "lost");
            world.run_ms(10);
        }
        world.settle_ms(3_000);
        world.database = copy;
        let writes = world.random.chance(0.5) && world.write(4, 99, "after the restore");
        world.run_ms(5_000);
        assert!(world.is_equal(), "{writes}");
        assert_eq!(world.nodes[2].disk.vector.epoch, 2);
        world.assert_oracle();
        assert!(world.write(3, 50, "goes on"));
        world.settle_ms(2_000);
        world.assert_oracle();
    });
}

#[test]
fn s19_a_node_that_cannot_apply_an_update_claims_and_passes_on_nothing() {
    seeds(5, |seed| {
        let mut world = cluster(5, seed, false);
        world.nodes[1].disk_fails = true;
        world.nodes[2].disk_fails = true;
        world.write(0, 1, "poison for two");
        world.run_ms(20_000);
        let digest = world.nodes[0].disk.vector.digest();
        for (index, applied) in [(1, false), (2, false), (3, true), (4, true)] {
            let seen =
                world.view(0).nodes.iter().find(|member| member.node_id == world.nodes[index].name).unwrap().digest;
            assert_eq!(seen == digest, applied, "node {index}");
        }
        assert!(!world.view(0).converged);
        assert!(world.expelled.is_empty(), "{:?}", world.expelled);
        world.nodes[1].disk_fails = false;
        world.nodes[2].disk_fails = false;
        world.settle_ms(10_000);
        world.assert_oracle();
    });
}

#[test]
fn s21_only_states_that_some_commit_led_to_are_ever_seen() {
    seeds(5, |seed| {
        let mut world = cluster(4, seed, true);
        (world.faults.loss, world.faults.reordering_us, world.faults.duplication) = (0.1, 300_000, 0.2);
        let mut history = BTreeMap::from([(0, BTreeMap::new())]);
        for number in 0..60u8 {
            let key = |id: u8| ("routes".to_owned(), [id; 16]);
            let text = Some(format!("{number}"));
            let both = [(key(number % 5), text.clone()), (key(100 + number % 5), text.filter(|_| number % 3 > 0))];
            let writer = world.random.below(4);
            assert!(world.commit(writer, &both));
            let database = world.database.clone().unwrap();
            history.insert(database.number, database.docs);
            for _ in 0..20 {
                world.run_ms(2);
                for node in &world.nodes {
                    assert_eq!(node.disk.docs, history[&node.disk.vector.count("")], "a state nobody committed");
                }
            }
        }
        world.heal();
        world.settle_ms(5_000);
    });
}

#[test]
fn s22_donors_that_lie_or_stall_are_left_for_the_next() {
    seeds(10, |seed| {
        let mut world = cluster(6, seed, false);
        let away = 5;
        world.partition(&[&[0, 1, 2, 3, 4], &[away]]);
        for id in 0..10 {
            world.write(0, id, "missed");
        }
        world.run_ms(10_000);
        world.liars.extend([0, 1]);
        world.mutes.extend([2, 3]);
        world.heal();
        // At worst a mute donor is asked before each of the others.
        world.settle_ms(10_000);
        world.assert_oracle();
    });
}

#[test]
fn s23_a_node_away_for_longer_than_tombstones_live_resurrects_nothing() {
    seeds(10, |seed| {
        let mut world = cluster(4, seed, false);
        for id in 0..20 {
            world.write(usize::from(id) % 4, id, "old");
        }
        world.settle_ms(3_000);
        world.crash(3);
        for id in 0..10 {
            world.write(usize::from(id) % 3, id, "");
        }
        world.run_ms(3_000);
        if seed % 2 == 0 {
            // Written there alone, before anybody heard of it.
            world.partition(&[&[0, 1, 2], &[3]]);
            world.start(3);
            world.write(3, 77, "unseen");
            world.run_ms(100);
            world.crash(3);
            world.heal();
        }
        for index in 0..4 {
            world.nodes[index].skew_ms += 9 * 24 * 3_600_000;
            let unix_ms = world.nodes[index].unix_ms(world.now_us);
            world.nodes[index].disk.registers.forget(unix_ms);
        }
        for index in 0..3 {
            world.crash(index);
            world.start(index);
        }
        world.start(3);
        world.run_ms(500);
        world.write(1, 88, "meanwhile");
        world.settle_ms(8_000);
        assert!(world.nodes[0].disk.docs.keys().all(|(_, id)| id[0] >= 10), "the dead are back");
        world.oracle.retain(|(_, id), (_, _, text)| text.is_some() && id[0] != 77);
        for node in &mut world.nodes {
            node.disk.docs.retain(|(_, id), _| id[0] != 77);
        }
        world.assert_oracle();
    });
}

#[test]
fn s24_nodes_start_without_the_database_from_disk_and_from_peers() {
    seeds(5, |seed| {
        let mut world = cluster(5, seed, true);
        for id in 0..30 {
            world.write(usize::from(id) % 5, id, "there");
        }
        world.settle_ms(3_000);
        world.database.as_mut().unwrap().up = false;
        for index in 0..5 {
            world.crash(index);
        }
        world.nodes[4].lose_disk();
        for index in 0..5 {
            world.start(index);
        }
        world.settle_ms(5_000);
        world.assert_oracle();
        assert!(!world.write(0, 1, "refused"));
        world.database.as_mut().unwrap().up = true;
        assert!(world.write(4, 1, "resumed"));
        world.settle_ms(2_000);
        world.assert_oracle();
    });
}

#[test]
fn concurrent_writes_to_one_entity_end_the_same_everywhere_under_skewed_and_stepping_clocks() {
    seeds(10, |seed| {
        let mut world = cluster(5, seed, false);
        for index in 0..5 {
            world.nodes[index].skew_ms = world.random.between(0, 8_000) as i64 - 4_000;
        }
        for number in 0..60 {
            let (writer, step) = (world.random.below(5), world.random.between(0, 4_000) as i64 - 2_000);
            world.nodes[writer].skew_ms += step;
            world.write(writer, number % 3, &format!("{number}"));
            let pause_ms = world.random.between(0, 400);
            world.run_ms(pause_ms);
        }
        world.settle_ms(3_000);
        world.assert_oracle();
        // What a user saw and changed stays changed, however far ahead the clock was that wrote it.
        world.nodes[1].skew_ms = -3_600_000;
        world.write(1, 0, "last");
        world.settle_ms(3_000);
        assert_eq!(world.nodes[4].disk.docs[&("routes".to_owned(), [0; 16])], "last");
    });
}

//! Failures of membership and transport: 26, 34 to 39.

use tidegate::cluster::core::view::State;

use crate::configuration::cluster;
use crate::random::seeds;
use crate::world::World;

#[test]
fn s26_a_hundred_restarts_leave_one_incarnation() {
    let mut world = cluster(4, 1, false);
    for _ in 0..100 {
        world.crash(3);
        world.start(3);
        let pause_ms = world.random.between(0, 300);
        world.run_ms(pause_ms);
    }
    let incarnation = world.nodes[3].incarnation;
    let sees_the_last = |world: &World, viewer: usize| {
        let view = world.view(viewer);
        assert_eq!(view.nodes.len(), 4);
        view.nodes.iter().any(|member| member.incarnation == incarnation)
    };
    world.wait_ms(2_000, "the last one everywhere", |world| (0..3).all(|viewer| sees_the_last(world, viewer)));
    world.wait_ms(2_000, "alive again", World::is_one_cluster);
}

#[test]
fn kill_is_noticed_within_eight_seconds_and_a_restart_within_one() {
    seeds(10, |seed| {
        let mut world = cluster(5, seed, false);
        let pause_ms = world.random.between(0, 1_000);
        world.run_ms(pause_ms);
        world.crash(2);
        let others = [0, 1, 3, 4];
        let noticed = |world: &World| {
            others.iter().all(|viewer| matches!(world.state_of(*viewer, 2), Some(State::Suspect | State::Dead)))
        };
        world.wait_ms(8_000, "suspect or dead everywhere", noticed);
        world.run_ms(20_000);
        assert!(others.iter().all(|viewer| world.state_of(*viewer, 2) == Some(State::Dead)));
        world.start(2);
        world.wait_ms(1_000, "alive again", World::is_one_cluster);
    });
}

#[test]
fn s34_nodes_that_swap_addresses_are_told_apart_by_identity() {
    seeds(5, |seed| {
        let mut world = cluster(5, seed, false);
        world.crash(3);
        world.crash(4);
        world.run_ms(1_000);
        let (three, four) = (world.nodes[3].address.clone(), world.nodes[4].address.clone());
        (world.nodes[3].address, world.nodes[4].address) = (four, three);
        world.start(3);
        world.start(4);
        world.write(3, 3, "of three");
        world.write(4, 4, "of four");
        world.wait_ms(3_000, "one cluster", World::is_one_cluster);
        world.settle_ms(2_000);
        world.assert_oracle();
        for viewer in 0..5 {
            for member in world.view(viewer).nodes {
                let node = world.nodes.iter().find(|node| node.name == member.node_id).unwrap();
                assert_eq!((member.address, member.region), (node.address.clone(), node.hello().region));
            }
        }
    });
}

#[test]
fn s35_where_one_direction_is_cut_the_others_carry_the_data() {
    seeds(5, |seed| {
        let mut world = cluster(5, seed, false);
        world.faults.cuts.insert((0, 1));
        world.write(0, 1, "goes around");
        world.write(1, 2, "comes around");
        // The pull after a beat of somebody else, and the second donor where the first cannot be heard.
        world.settle_ms(5_000);
        world.run_ms(12_000);
        let (one, other) = (world.state_of(0, 1), world.state_of(1, 0));
        assert!(one != Some(State::Alive) && other != Some(State::Alive), "{one:?} {other:?}");
        world.write(0, 3, "still");
        world.settle_ms(3_000);
        world.heal();
        world.wait_ms(1_500, "one cluster", World::is_one_cluster);
        world.assert_oracle();
    });
}

fn write_everywhere(world: &mut World, rounds: u8) {
    for round in 0..rounds {
        for index in 0..world.nodes.len() {
            world.write(index, (index as u8) * 3 + round % 3, &format!("{index} {round}"));
            world.write(index, 200, &format!("of all, {index} {round}"));
        }
        world.run_ms(100);
    }
}

#[test]
fn s36_a_split_in_two_heals_within_a_second() {
    seeds(10, |seed| {
        let mut world = cluster(6, seed, false);
        world.partition(&[&[0, 1, 2], &[3, 4, 5]]);
        write_everywhere(&mut world, 10);
        world.run_ms(59_000);
        assert!(!world.is_equal() && world.state_of(0, 5) == Some(State::Dead));
        world.heal();
        world.settle_ms(1_000);
        world.assert_oracle();
    });
}

#[test]
fn s36_a_split_in_three_heals_within_a_second() {
    seeds(10, |seed| {
        let mut world = cluster(7, seed, seed % 2 == 0);
        world.partition(&[&[0, 1, 2], &[3, 4], &[5, 6]]);
        if world.database.is_some() {
            for id in 0..20 {
                world.write(usize::from(id) % 3, id, "on the side of the database");
            }
        } else {
            write_everywhere(&mut world, 3);
        }
        world.run_ms(60_000);
        world.heal();
        world.settle_ms(1_000);
        world.assert_oracle();
    });
}

#[test]
fn s36_flapping_ends_well() {
    seeds(5, |seed| {
        let mut world = cluster(5, seed, false);
        for round in 0..20 {
            world.partition(&[&[0, 1], &[2, 3, 4]]);
            write_everywhere(&mut world, 1);
            let pause_ms = world.random.between(0, 12_000);
            world.run_ms(pause_ms);
            world.heal();
            let pause_ms = world.random.between(0, if round % 4 == 0 { 2_000 } else { 200 });
            world.run_ms(pause_ms);
        }
        world.settle_ms(3_000);
        world.assert_oracle();
    });
}

#[test]
fn s37_members_that_nobody_announced_are_found_by_hearsay() {
    seeds(5, |seed| {
        let mut world = World::new(12, seed, false);
        world.faults.loss = 0.2;
        world.wait_ms(15_000, "one cluster", World::is_one_cluster);
    });
}

#[test]
fn s38_a_rolling_deploy_under_writes_keeps_everything() {
    seeds(2, |seed| {
        let mut world = cluster(9, seed, seed % 2 == 0);
        for index in 0..9 {
            world.leave(index);
            world.run_ms(300);
            world.crash(index);
            for id in 0..4 {
                world.write((index + 1 + usize::from(id)) % 9, id, &format!("{index} {id}"));
                world.run_ms(500);
            }
            world.start(index);
            world.run_ms(500);
        }
        world.settle_ms(3_000);
        world.wait_ms(5_000, "one cluster", World::is_one_cluster);
        world.assert_oracle();
    });
}

#[test]
fn s39_a_node_stopped_for_three_seconds_is_not_declared_dead() {
    seeds(10, |seed| {
        let mut world = cluster(5, seed, false);
        world.nodes[2].stopped_until_us = world.now_us + 3_000_000;
        world.write(0, 1, "meanwhile");
        for _ in 0..60 {
            world.run_ms(100);
            for viewer in [0, 1, 3, 4] {
                assert_ne!(world.state_of(viewer, 2), Some(State::Dead));
            }
        }
        assert!(world.is_one_cluster() && world.is_equal());
    });
}

#[test]
fn who_says_goodbye_is_left_and_is_not_dialled_back() {
    let mut world = cluster(4, 3, false);
    world.leave(3);
    world.run_ms(500);
    world.crash(3);
    world.run_ms(5_000);
    assert!((0..3).all(|viewer| world.state_of(viewer, 3) == Some(State::Left)));
    world.start(3);
    world.wait_ms(2_000, "alive again", World::is_one_cluster);
}

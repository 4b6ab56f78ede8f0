use super::*;
use crate::config::options::SECTIONS;

fn is_sorted_without_repeats(keys: &[&str]) -> bool {
    keys.windows(2).all(|pair| pair[0] < pair[1])
}

#[test]
fn the_lists_are_sorted_for_the_binary_search_and_maps_are_keys() {
    assert!(is_sorted_without_repeats(KEYS));
    assert!(is_sorted_without_repeats(MAP_KEYS));
    assert!(MAP_KEYS.iter().all(|key| KEYS.binary_search(key).is_ok()));
}

#[test]
fn no_key_has_an_effect_and_none_as_well() {
    for option in SECTIONS.iter().flat_map(|(_, options)| options.iter()) {
        for key in std::iter::once(option.key()).chain(option.older_keys().iter().copied()) {
            assert!(
                KEYS.binary_search(&key).is_err(),
                "{key}: run e2e/bench/flink/options/generate"
            );
        }
    }
}

#[test]
fn each_key_has_a_reason() {
    for key in all_keys() {
        assert!(reason_without_effect(key).is_some(), "{key} is in no family");
    }
}

#[test]
fn an_entry_of_a_map_is_a_key_and_an_invented_key_beside_it_is_none() {
    assert!(reason_without_effect("kubernetes.jobmanager.labels.team").is_some());
    assert_eq!(reason_without_effect("kubernetes.jobmanager.labels."), None);
    assert_eq!(reason_without_effect("kubernetes.jobmanager.label"), None);
}

#[test]
fn the_longest_beginning_decides_the_reason() {
    let name = |key| family_of(key).map(|family| family.name);
    assert_eq!(name("taskmanager.memory.segment-size"), Some("JVM"));
    assert_eq!(name("taskmanager.slot.timeout"), Some("Schedulers"));
    assert_eq!(name("taskmanager.memory.size"), Some("Older names"));
}

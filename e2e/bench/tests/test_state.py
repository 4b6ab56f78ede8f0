"""The pure parts of the benchmarks of state."""

import pathlib
import tempfile
import unittest
from unittest import mock

from measure import checkpoints, contenders, counting, jvm, keys, larger_than_memory, outcomes
from measure.engine import EngineError, Job
from measure.outcomes import Quantity, Run

from .test_measure import sample


class Keys(unittest.TestCase):
    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.object(keys, "_INPUT", pathlib.Path(folder)))

    def test_distinct_keys_come_once_each_in_blocks(self) -> None:
        file = keys.distinct(2500)
        lines = file.read_text().splitlines()
        self.assertEqual([len(line) // keys.DIGITS for line in lines], [1000, 1000, 500])
        self.assertEqual(len(lines), keys.lines_of(2500))
        counts = keys.counts_of([file])
        self.assertEqual((len(counts), set(counts.values())), (2500, {1}))

    def test_updates_are_of_these_keys_and_spread_over_all_of_them(self) -> None:
        counts = keys.counts_of([keys.updates(100, 10_000)])
        self.assertEqual(counts.keys(), keys.counts_of([keys.distinct(100)]).keys())
        self.assertEqual(counts.total(), 10_000)

    def test_a_sample_is_of_different_keys_and_others_for_another_seed(self) -> None:
        first, second = (set(keys.counts_of([keys.sample(1000, 50, seed)])) for seed in (0, 1))
        self.assertEqual((len(first), len(second)), (50, 50))
        self.assertNotEqual(first, second)

    def test_a_file_is_made_once_and_always_the_same(self) -> None:
        made = keys.distinct(10).read_bytes()
        with mock.patch.object(keys, "_distinct_blocks", side_effect=AssertionError):
            keys.distinct(10)
        keys.distinct(10).unlink()
        self.assertEqual(keys.distinct(10).read_bytes(), made)


class Jvm(unittest.TestCase):
    def test_what_is_used_of_the_heap_is_added_and_nothing_else(self) -> None:
        g1 = (
            "4711:\n garbage-first heap   total 262144K, used 5120K [0x1, 0x2)\n  region size 1024K, 3 young (3072K), 1 survivors\n"
            " Metaspace       used 40000K, committed 41000K, reserved 1100000K\n  class space    used 5000K, committed 5100K\n"
        )
        serial = (
            " def new generation   total 4928K, used 100K [0x1, 0x2, 0x3)\n  eden space 4416K,   2% used [0x1, 0x2, 0x3)\n"
            " tenured generation   total 10944K, used 28K [0x1, 0x2, 0x3)\n   the space 10944K,   0% used [0x1, 0x2, 0x3)\n"
            " Metaspace       used 100K, committed 200K, reserved 300K\n"
        )
        self.assertEqual(jvm.used_of(g1), 5120 * 1024)
        self.assertEqual(jvm.used_of(serial), 128 * 1024)


class Checkpoints(unittest.TestCase):
    def test_the_longest_pause_is_that_of_the_slowest_subtask_that_took_part(self) -> None:
        took = lambda sync: {"status": "completed", "checkpoint": {"sync": sync, "async": 900}}  # noqa: E731
        vertices = [{"subtasks": [took(3), {"status": "pending_or_failed"}]}, {"subtasks": [took(7), took(5)]}]
        self.assertEqual(checkpoints.longest_pause(vertices), 7)


class Contenders(unittest.TestCase):
    def test_each_of_flinks_is_compared_with_each_of_ours(self) -> None:
        names = ["flink-rocksdb", "thalweg-hashmap", "flink-rocksdb-local"]
        found = contenders.pairs(names)
        self.assertEqual(found, [("flink-rocksdb", "thalweg-hashmap"), ("flink-rocksdb-local", "thalweg-hashmap")])

    def test_the_last_word_on_a_setting_is_the_engines_own_and_folders_are_filled_in(self) -> None:
        options = mock.Mock(binaries=pathlib.Path("bin"))
        engine = contenders.make("thalweg-rocksdb-local", options)
        settings = engine.settings(Job("keyed-count", [], 2, "1g", settings={"a": "@WORK@/a", "state.backend.type": "hashmap"}))
        self.assertEqual(settings["a"], f"{engine.work}/a")
        self.assertEqual(settings["state.backend.type"], "rocksdb")
        self.assertEqual(settings["execution.state-recovery.from-local"], "true")

    def test_several_task_managers_have_a_slot_each(self) -> None:
        self.assertEqual(Job("keyed-count", [], 2, "1g").slots, 2)
        self.assertEqual(Job("keyed-count", [], 2, "1g", task_managers=3).slots, 1)


class Outcomes(unittest.TestCase):
    QUANTITIES = [Quantity("speed", True), Quantity("time", False), Quantity("beside", None)]
    RUNS = [
        Run("flink-hashmap", "a", {"speed": 10, "time": 4, "beside": 1}),
        Run("thalweg-hashmap", "a", {"speed": 30, "time": 8, "beside": 2}),
        Run("thalweg-hashmap", "b", {"speed": 1}),
    ]

    def test_what_both_have_is_compared_losing_cases_first(self) -> None:
        found = sorted(outcomes.comparisons(self.RUNS, self.QUANTITIES), key=lambda row: row.ratio)
        pair = "flink-hashmap : thalweg-hashmap"
        self.assertEqual([(row.what, row.ratio) for row in found], [(f"time, a, {pair}", 0.5), (f"speed, a, {pair}", 3)])

    def test_everything_is_told_and_what_was_not_measured_left_open(self) -> None:
        rows = outcomes.all_figures(self.RUNS, self.QUANTITIES).splitlines()[2:]
        self.assertEqual(len(rows), 3)
        self.assertEqual(rows[2], "| thalweg-hashmap b | 1 (1-1) | - | - |")


class Counting(unittest.TestCase):
    def test_rates_are_of_the_fill_and_of_what_comes_a_warm_up_behind_it(self) -> None:
        # 10 records a second until each of 40 keys was counted, then 20 a second.
        counted = [0, 10, 20, 30, 40, 60, 80, 100, 120]
        samples = [sample(at, records, cpu=at) for at, records in enumerate(counted)]
        rates = counting.rates(samples, distinct=40, available=1000, warmup=1)
        self.assertEqual(rates[counting.FILL_RATE], 10)
        self.assertEqual((rates[counting.RATE], rates["window, s"]), (20, 3))

    def test_a_fill_too_short_to_be_measured_is_left_out(self) -> None:
        samples = [sample(at, 50 * at, cpu=at) for at in range(9)]
        self.assertNotIn(counting.FILL_RATE, counting.rates(samples, distinct=40, available=1000, warmup=1))

    def test_a_wrong_count_is_told_with_its_key(self) -> None:
        with self.assertRaisesRegex(EngineError, "x counts 1 of 2 keys wrong, the first is 'b': None and not 2"):
            counting.compare_counts("x", {"a": 1}, {"a": 1, "b": 2})


class LargerThanMemory(unittest.TestCase):
    def test_keys_and_values_are_so_many_times_the_limit(self) -> None:
        self.assertEqual(larger_than_memory.bytes_of("512m"), 512 << 20)
        self.assertEqual(larger_than_memory.distinct_keys(1000 * 264, 10, 248), 10_000)
        with self.assertRaises(ValueError):
            larger_than_memory.bytes_of("1 GB")


if __name__ == "__main__":
    unittest.main()

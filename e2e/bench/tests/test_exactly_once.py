"""The pure parts of the benchmarks of exactly once and of what dies."""

import pathlib
import tempfile
import unittest
from unittest import mock

from measure import contenders, exactly_once, failover
from measure.engine import EngineError, Job
from measure.exactly_once import AT_LEAST_ONCE, EXACTLY_ONCE, Flow
from measure.flink import newest_checkpoint
from measure.outcomes import Run


class Losses(unittest.TestCase):
    def test_what_is_lost_is_of_the_medians_of_one_engine_and_interval(self) -> None:
        runs = [
            Run("thalweg-hashmap", exactly_once.case(guarantee, "1 s"), {"transfers/s": rate})
            for guarantee, rates in ((AT_LEAST_ONCE, (100, 200, 900)), (EXACTLY_ONCE, (150, 190, 170)))
            for rate in rates
        ]
        rows = exactly_once.losses(runs, ["1 s", "100 ms"]).splitlines()[2:]
        self.assertEqual(rows, ["| thalweg-hashmap, 1 s | 200 | 170 | 15.0 |"])

    def test_what_measured_delays_only_has_no_loss(self) -> None:
        runs = [Run("flink-hashmap", exactly_once.case(AT_LEAST_ONCE, "1 s"), {"delay, median, ms": 1.0})]
        self.assertEqual(exactly_once.losses(runs, ["1 s"]).splitlines()[2:], [])


class Delays(unittest.TestCase):
    def test_delays_are_told_in_milliseconds(self) -> None:
        values = exactly_once.delay_values([thousandth / 1000 for thousandth in range(1, 1001)])
        self.assertAlmostEqual(values["delay, median, ms"], 500.5)
        self.assertAlmostEqual(values["delay, 99 %, ms"], 990.99)
        self.assertEqual(values["delay, longest, ms"], 1000)
        with self.assertRaises(ValueError):
            exactly_once.delay_values([])

    def test_a_transfer_was_written_with_those_of_its_moment(self) -> None:
        with mock.patch("measure.topics.producer"):
            flow = Flow("topic", per_second=100)
        flow._written = [1.0, 1.02, 1.04]
        self.assertEqual([flow.written(transfer) for transfer in (0, 1, 2, 5)], [1.0, 1.0, 1.02, 1.04])

    def test_transfers_are_between_two_accounts_and_always_the_same(self) -> None:
        with mock.patch.object(exactly_once, "_DIFFERENT", 100):
            lines = exactly_once.transfers()
            self.assertEqual(lines, exactly_once.transfers())
        for number, line in enumerate(lines):
            transfer, paying, paid, amount = map(int, line.split())
            self.assertEqual(transfer, number)
            self.assertNotEqual(paying, paid)
            self.assertGreater(amount, 0)


class Balances(unittest.TestCase):
    def test_what_one_pays_another_gets(self) -> None:
        gained = exactly_once.balances(exactly_once.halves(["0 1 2 30", "1 2 3 10"]))
        self.assertEqual(gained, {1: -30, 2: 20, 3: 10})


class Checkpoints(unittest.TestCase):
    def test_the_newest_complete_checkpoint_is_gone_on_from(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            job = pathlib.Path(folder) / "0123"
            with self.assertRaises(EngineError):
                newest_checkpoint(pathlib.Path(folder))
            for name in ("chk-9/_metadata", "chk-10/_metadata", "chk-11/part"):
                (job / name).parent.mkdir(parents=True)
                (job / name).touch()
            self.assertEqual(newest_checkpoint(pathlib.Path(folder)), job / "chk-10")

    def test_only_a_complete_checkpoint_that_was_triggered_behind_the_kill_counts(self) -> None:
        one = lambda status, trigger: {"status": status, "trigger_timestamp": trigger, "latest_ack_timestamp": trigger + 50}  # noqa: E731
        history = [one("IN_PROGRESS", 9000), one("COMPLETED", 8000), one("COMPLETED", 7000), one("FAILED", 6000)]
        history += [one("COMPLETED", 4000)]
        self.assertEqual(failover.first_behind({"history": history}, 5.0), 7.05)
        self.assertIsNone(failover.first_behind({"history": history[-1:]}, 5.0))
        self.assertIsNone(failover.first_behind(None, 5.0))


class Engines(unittest.TestCase):
    OPTIONS = mock.Mock(binaries=pathlib.Path("bin"), flink_home=pathlib.Path("home"), flink_jar=pathlib.Path("jar"))

    def test_what_was_killed_is_started_again_as_it_was_with_a_log_of_its_own(self) -> None:
        engine = contenders.make("thalweg-hashmap", self.OPTIONS)
        with mock.patch("measure.engine.Process") as process, mock.patch("measure.processes.kill"):
            engine._spawn("jobmanager", ["a"], {})
            engine._spawn_task_manager(0, ["b"], {})
            started = [(call.args[1], call.args[3]) for call in process.call_args_list]
            engine.kill_everything()
            self.assertEqual((engine.processes, engine.task_managers), ([], {}))
            engine.start_again(Job("keyed-count", [], 2, "1g"))
            again = [(call.args[1], call.args[3]) for call in process.call_args_list[2:]]
            logs = {call.args[2].name for call in process.call_args_list}
        self.assertEqual(again, started)
        self.assertEqual(len(logs), 4)
        self.assertEqual(list(engine.task_managers), [0])

    def test_the_standby_is_asked_when_the_leader_is_killed(self) -> None:
        for name in ("flink-hashmap", "thalweg-hashmap"):
            engine = contenders.make(name, self.OPTIONS)
            with mock.patch("measure.engine.Process", side_effect=lambda told, *_: _named(told)):
                engine._spawn("jobmanager", ["a"], {})
                engine._spawn("jobmanager-1", ["b"], {})
            first = engine.rest_url
            engine.kill_leader()
            self.assertNotEqual(engine.rest_url, first)
            self.assertEqual(len(engine.processes), 1)

    def test_high_availability_is_asked_for_only_where_a_job_wants_it(self) -> None:
        for name, kind in (("flink-hashmap", "zookeeper"), ("thalweg-hashmap", "storage")):
            engine = contenders.make(name, self.OPTIONS)
            self.assertEqual(engine.settings(Job("j", [], 2, "1g", high_availability=True))["high-availability.type"], kind)
            self.assertNotIn("high-availability.type", engine.settings(Job("j", [], 2, "1g")))


def _named(name: str) -> mock.Mock:
    process = mock.Mock()
    process.name = name
    return process


if __name__ == "__main__":
    unittest.main()

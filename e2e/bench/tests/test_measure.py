"""The pure parts: run by `python3 -m unittest discover -s e2e/bench -t e2e/bench`."""

import io
import json
import pathlib
import tarfile
import tempfile
import unittest

from measure import figures, prometheus, start, steady, topics, word_count
from measure.figures import Comparison, Figure


def sample(time: float, records: float, cpu: float = 0.0) -> steady.Sample:
    return steady.Sample(time, records, sent=records / 2, engine_cpu=cpu, broker_cpu=cpu / 2, machine_cpu=2 * cpu)


class Figures(unittest.TestCase):
    def test_a_figure_is_its_median_and_its_spread(self) -> None:
        self.assertEqual(Figure((3000, 1000, 2000)).text(), "2,000 (1,000-3,000)")
        with self.assertRaises(figures.FigureError):
            Figure(())

    def test_losing_cases_come_first_and_less_memory_is_better(self) -> None:
        faster = Comparison("speed", Figure((10,)), Figure((30,)))
        smaller = Comparison("memory", Figure((10,)), Figure((20,)), more_is_better=False)
        rows = figures.comparison_table([faster, smaller]).splitlines()[2:]
        self.assertEqual(rows, ["| memory | 10 (10-10) | 20 (20-20) | 0.50x |", "| speed | 10 (10-10) | 30 (30-30) | 3.00x |"])


class Prometheus(unittest.TestCase):
    PAGE = (
        "# TYPE out gauge\n"
        'out{operator_name="Source: lines",task_name="a, \\"b\\" {c}",} 5.0\n'
        'out{operator_name="Source: lines"} 2e3\n'
        'out{operator_name="words"} 7\n'
    )

    def test_only_the_samples_wanted_are_added(self) -> None:
        source = prometheus.total(self.PAGE, "out", lambda labels: labels["operator_name"].startswith("Source:"))
        self.assertEqual(source, 2005.0)
        self.assertIsNone(prometheus.total(self.PAGE, "in"))

    def test_labels_may_hold_what_separates_labels(self) -> None:
        _, labels, _ = next(prometheus.samples(self.PAGE))
        self.assertEqual(labels["task_name"], 'a, \\"b\\" {c}')


class Window(unittest.TestCase):
    def test_it_goes_from_move_to_move_of_a_counter_that_moves_seldom(self) -> None:
        samples = [sample(0, 0), sample(1, 10, 1), sample(2, 10, 2), sample(3, 30, 3), sample(4, 30, 4)]
        window = steady.window(samples, begin=0.5, available=1000)
        self.assertEqual((window.seconds, window.records, window.engine_cpu), (2, 20, 2))
        self.assertEqual((window.per_second, window.per_core_second), (10, 10))
        self.assertEqual((window.sent, window.broker_cpu, window.other_cpu), (10, 1, 1))

    def test_it_ends_before_the_topic_is_read_out(self) -> None:
        samples = [sample(at, 10 * at, at) for at in range(10)]
        self.assertEqual(steady.window(samples, begin=2, available=60).seconds, 3)

    def test_a_topic_that_is_read_out_in_the_warm_up_is_an_error(self) -> None:
        with self.assertRaises(steady.WindowError):
            steady.window([sample(at, 10 * at, at) for at in range(10)], begin=8, available=60)


class WordCount(unittest.TestCase):
    def test_words_are_split_at_what_is_not_alphanumeric_and_lowered(self) -> None:
        self.assertEqual(topics.words_of("To be, or not to-be: B2"), ["to", "be", "or", "not", "to", "be", "b2"])

    def test_the_largest_count_of_a_word_is_its_count(self) -> None:
        self.assertEqual(topics.largest_counts(["a 1", "b 1", "a 3", "a 2"]), {"a": 3, "b": 1})

    def test_each_of_flinks_programs_is_compared_at_each_sink(self) -> None:
        window = steady.window([sample(at, 10 * at, at) for at in range(5)], begin=0, available=1000)
        runs = [
            word_count.Run(engine, sink, window, 1 << 20)
            for engine in ("flink", "flink-sql", "thalweg")
            for sink in ("kafka", "blackhole")
            if (engine, sink) != ("flink-sql", "blackhole")
        ]
        cases = {row.what for row in word_count.comparisons(runs, 7.0) if row.what.startswith("lines/s")}
        self.assertEqual(cases, {f"lines/s to {case}" for case in ("kafka, flink", "kafka, flink-sql", "blackhole, flink")})


class Start(unittest.TestCase):
    def test_roles_are_told_by_the_command_line(self) -> None:
        self.assertEqual(start.role_of(["/opt/thalweg/bin/thalweg", "-D", "a=b", "taskmanager"]), "taskmanager")
        self.assertEqual(start.role_of(["thalweg-operator"]), "operator")
        self.assertIsNone(start.role_of(["/pause"]))
        self.assertIsNone(start.role_of([""]))

    def test_an_images_size_is_that_of_its_compressed_layers(self) -> None:
        layer = bytes(1_000_000)
        manifest = {"config": {"size": 500}, "layers": [{"digest": "sha256:layer"}]}
        files = {
            "index.json": json.dumps({"manifests": [{"digest": "sha256:manifest"}]}).encode(),
            "blobs/sha256/manifest": json.dumps(manifest).encode(),
            "blobs/sha256/layer": layer,
        }
        with tempfile.TemporaryDirectory() as folder:
            archive = pathlib.Path(folder) / "image.tar"
            with tarfile.open(archive, "w") as out:
                for name, content in files.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    out.addfile(entry, io.BytesIO(content))
            size = start.compressed_size(archive)
        self.assertTrue(500 < size < 10_000, size)


if __name__ == "__main__":
    unittest.main()

"""Measures Thalweg, alone and beside real Flink.

    bench (verbs) -> word_count -> engines (flink, thalweg) -> processes, rest, prometheus
                  -> start      -> kubernetes through e2e/cluster
                  -> report     <- figures of all runs, as Markdown and JSON

Standard library only. What runs in the cluster's network is this program again, started by `e2e/cluster/cluster exec`.
"""

"""A scrape, read as Prometheus reads it."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    found = [(s.name, frozenset(s.labels.items()), s.value) for family in families for s in family.samples]
    samples = {(name, labels): value for name, labels, value in found}
    assert len(samples) == len(found), "a series is there twice"
    return samples


def scraped(metrics: Metrics) -> Samples:
    return parsed(asyncio.run(metrics.scrape()))


def value(samples: Samples, metric: str, **labels: str) -> float:
    return samples[metric, frozenset(labels.items())]


def total(samples: Samples, metric: str, **labels: str) -> float:
    """Of all series with these labels."""
    wanted = set(labels.items())
    return sum(each for (name, found), each in samples.items() if name == metric and wanted <= found)

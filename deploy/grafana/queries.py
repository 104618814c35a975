"""What the panels ask Prometheus. Nothing newer than 2.42 knows is asked, and nothing that 3 has left out."""

# Windows of drift, and the PSI below which no alert rings, whatever chance explains: as deploy/prometheus has it.
FLOORS = {"1h": 0.25, "24h": 0.1, "7d": 0.1}
LEAST_ROWS = 200
ALARM = "1 is where the alert rings: PSI as large as people care about, and larger than chance explains."
LABELS = {"input": "feature", "output": "output"}

# Selectors: what is chosen above the panels; requests of a model, where others have an empty name; those answered.
MODEL = 'model="$model"'
VERSION = 'model="$model",version="$version"'
OF_MODELS = 'model!=""'
OK, NOT_OK, ERROR = 'outcome="ok"', 'outcome!="ok"', 'outcome="error"'

# Of what is loaded; of our processes, and not of Prometheus' own.
LOADED = "and on (model, version) hornpipe_model_info"
OURS = "and on (job, instance) hornpipe_workers"

REQUESTS = "hornpipe_request_duration_seconds"
PREDICTIONS = "hornpipe_predictions_total"
CREATED = "hornpipe_model_created_timestamp_seconds"


def rate(metric: str, *where: str) -> str:
    """A second, of a counter with these selectors."""
    return f"rate({metric}{{{','.join(where)}}}[$__rate_interval])"


def total(query: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) ({query})" if by else f"sum({query})"


def quantiles(
    metric: str, *where: str, by: tuple[str, ...] = (), of: tuple[float, ...] = (0.5, 0.99)
) -> dict[str, str]:
    """Of a histogram, by legend, which begins with the labels."""
    buckets = total(rate(f"{metric}_bucket", *where), *by, "le")
    return {
        " ".join((*(f"{{{{{label}}}}}" for label in by), f"p{100 * q:g}")): f"histogram_quantile({q:g}, {buckets})"
        for q in of
    }


def le(bound: float) -> str:
    """The selector of a bucket, as Prometheus 3 writes its bound, and our metrics do anyway."""
    return f'le="{bound}"'


def drift(of: str, window: str, where: str = "") -> str:
    """PSI by feature or output, as a share of what the alert rings at; of those with enough rows to tell."""
    name = f"model_version_{LABELS[of]}:hornpipe_{of}"
    alarm = f"clamp_min({name}:psi_critical{window}, {FLOORS[window]:g})"
    return f"{name}:psi{window}{{{where}}} / {alarm} and {name}_rows:increase{window} >= {LEAST_ROWS}"


def share(bins: str) -> str:
    """Of the rows of the chosen window, by feature."""
    where = f'{VERSION},bin=~"{bins}"'
    return total(f"model_version_feature_bin:hornpipe_input_bin:ratio$window{{{where}}}", "feature")


def distribution(of: str) -> dict[str, str]:
    """Shares by bin, of the baseline and of the chosen window, of the chosen feature or output."""
    label = LABELS[of]
    name, where = f"model_version_{label}_bin:hornpipe_{of}", f'{VERSION},{label}="${label}"'
    shares = {"baseline": f"{name}_baseline:ratio{{{where}}}", "now": f"{name}_bin:ratio$window{{{where}}}"}
    return {legend: in_order(f"sort_desc(max by (bin) ({query}))") for legend, query in shares.items()}


def in_order(query: str) -> str:
    """With a label `at` that sorts bins as a person would: below, the ranges, above, and what is no value."""
    places = {"below": "-1e300", "above": "1e300", "other": "2e300", "missing": "3e300", "unseen": "4e300"}
    places |= {"non_finite": "5e300", "=.*": "0", "(-?[0-9.]+(?:e[-+]?[0-9]+)?)[.][.].*": "$1"}
    for bins, place in places.items():
        query = f'label_replace({query}, "at", "{place}", "bin", "{bins}")'
    return query

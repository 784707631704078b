"""Prometheus rules, dashboard, runbooks and program are consistent; other tests run them in promtool and Prometheus."""

import importlib
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from src.accounts import sessions
from src.core.metrics import Metrics
from src.core.metrics.catalogue import REQUEST_SECONDS
from src.core.workers import WORKERS
from src.settings import Settings

from .test_docs import rows, section

ROOT = Path(__file__).parents[1]
SLO = ROOT / "docs" / "slo.md"
PROMETHEUS, GRAFANA = ROOT / "confs" / "prometheus", ROOT / "confs" / "grafana"
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SCRAPED = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}
CORE_PANELS = {"row", "stat", "timeseries", "heatmap", "bargauge"}
SECONDS = {"min": 60, "m": 60, "h": 3600, "d": 86400, "s": 1}

yaml: Any = importlib.import_module("yaml")  # schemathesis brings it, without types


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    """Return every rule, with its expression on one line."""
    return [
        rule | {"expr": " ".join(rule["expr"].split())}
        for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
        for group in load(path)["groups"]
        for rule in group["rules"]
    ]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "sealpost.json").read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return every expression of the rules and of the dashboard."""
    variables = [variable["query"]["query"] for variable in dashboard()["templating"]["list"]]
    return (
        [rule["expr"] for rule in rules()] + [one["expr"] for panel in panels() for one in panel["targets"]] + variables
    )


def known() -> dict[str, set[str]]:
    """Return the labels of every possible series, by name."""
    served = {
        definition.name + suffix: {*definition.labels, "job", "instance"} | ({"le"} if suffix == "_bucket" else set())
        for definition in Metrics.off().definitions
        for suffix in SUFFIXES[definition.kind]
    }
    recorded = {rule["record"]: {"objective", "job", "instance"} for rule in rules() if "record" in rule}
    return served | recorded | SCRAPED


def asked(expression: str) -> list[tuple[str, set[str]]]:
    """Return each series in an expression, with its selector's labels."""
    selectors = re.findall(r"((?:sealpost_|\w+:)[\w:]*|\bup\b|\bALERTS\b)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", labels))) for name, labels in selectors]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+) ?([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * SECONDS[unit]


def test_queried_series_exist() -> None:
    """Each series in a rule or a panel is a metric of the program or a recorded one, with the labels used."""
    series = known()
    for expression in expressions():
        names = asked(expression)

        assert names or expression.startswith("vector("), expression
        for name, labels in names:
            assert name in series, expression
            assert labels <= series[name], expression


def test_every_metric_is_used() -> None:
    """Each metric of the program is in a rule or a panel; otherwise it need not be counted."""
    names = {name for expression in expressions() for name, _ in asked(expression)}

    for definition in Metrics.off().definitions:
        assert names & {definition.name + suffix for suffix in SUFFIXES[definition.kind]}, definition.name


def test_labels_to_sum_by_exist() -> None:
    """Each label in a `by` clause belongs to a series of the same expression."""
    series = known()
    for expression in expressions():
        labels = set().union(*(series[name] for name, _ in asked(expression)))
        for listed in re.findall(r"\bby \(([\w, ]+)\)", expression):
            assert set(listed.split(", ")) <= labels, expression


def test_every_alert_is_tested_both_ways() -> None:
    """Promtool tests a case in which it fires and one in which it does not."""
    firing, silent = set[str](), set[str]()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for case in load(path)["tests"]:
            for one in case.get("alert_rule_test", ()):
                (firing if one["exp_alerts"] else silent).add(one["alertname"])

    assert set(alerts()) == firing == silent


def test_every_alert_has_a_runbook() -> None:
    """It has a severity, annotations, and a section in docs/slo.md with that severity; no section is left over."""
    headings = re.findall(r"(?m)^### (Sealpost\w+)$", section(SLO, "## When an alert fires"))

    assert sorted(alerts()) == sorted(headings)
    for name, alert in alerts().items():
        severity = alert["labels"]["severity"]

        assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
        assert f"docs/slo.md#{name.lower()}" == alert["annotations"]["runbook_url"]
        assert severity in {"page", "ticket"}
        assert f"{severity.capitalize()}" in re.findall(r"\b(Page|Ticket)\b", section(SLO, f"### {name}")), name


def test_the_objectives_are_as_documented() -> None:
    """Targets and budgets in docs/slo.md match the rules."""
    budgets = {
        rule["labels"]["objective"].replace("_", " "): float(re.fullmatch(r"vector\((.+)\)", rule["expr"])[1])  # type: ignore[index]
        for rule in rules()
        if rule.get("record") == "sealpost:error_budget:ratio"
    }
    table = {row[0]: row for row in rows(section(SLO, "## The objectives"))}

    assert {name: 1 - float(row[1].removesuffix(" %")) / 100 for name, row in table.items() if name in budgets} == {
        name: pytest.approx(budget) for name, budget in budgets.items()
    }
    for name, budget in budgets.items():
        span = re.match(r"(?:\d+ (?:h|min|s)\b ?)+", table[name][3])
        assert span
        assert sum(seconds(part) for part in re.findall(r"\d+ [a-z]+", span[0])) == pytest.approx(budget * 30 * 86400)


def test_the_windows_of_burn_rates_are_as_documented() -> None:
    """Rates, windows and severities of the burn rate alerts match docs/slo.md, each with at least 10 bad events."""
    table = [row for row in rows(section(SLO, "## Error budgets")) if len(row) == 5]
    documented = {tuple(cell.replace(" ", "").replace("min", "m") for cell in (*row[:3], row[4])) for row in table}
    rate = r'sealpost:burn_rate:ratio({})\{{objective="{}"\}} > '
    pair = rate.format(r"\w+", r"(\w+)") + r"([\d.]+) and " + rate.format(r"\w+", r"\2") + r"\3 and "
    enough = r'sealpost:bad_events:increase\1\{objective="\2"\} >= 10 '
    used: dict[str, set[tuple[str, ...]]] = {}
    for name, alert in alerts().items():
        if "Burns" in name:
            for long, objective, factor, short in re.findall(pair + enough, alert["expr"]):
                used.setdefault(objective, set()).add((factor, long, short, alert["labels"]["severity"]))

    assert {"availability": documented, "echo_latency": documented} == used
    for factor, long, _, share, _ in table:
        assert float(share.removesuffix(" %")) == pytest.approx(100 * float(factor) * seconds(long) / (30 * 86400))


def test_thresholds_are_those_of_the_program() -> None:
    """Numbers in rules and panels match the program and other configuration."""
    supervisord = (ROOT / "confs" / "supervisor" / "supervisord.conf").read_text(encoding="utf-8")
    queue = Settings(_env_file=None).batch_queue
    waiting = next(panel for panel in panels() if panel["title"] == "Queue depth")
    rule = {name: alert["expr"] for name, alert in alerts().items()}

    assert {0.1, 0.5} <= set(REQUEST_SECONDS)
    assert re.findall(r"minfds = (\d+)", supervisord) == re.findall(r"\* (\d+)", rule["SealpostOpenFilesNearLimit"])
    assert rule["SealpostWorkersMissing"].endswith(f"< {WORKERS}")
    assert rule["SealpostBatchQueueGrows"].endswith(f"> {queue // 4}")
    assert str(queue) in waiting["description"]
    assert rule["SealpostRevocationLate"].endswith(f"> {sessions.REVOCATION_STALE + sessions.REVOCATION_INTERVAL:.0f}")


def test_prometheus_scrapes_nginx() -> None:
    """Job, target and port match the rules and docker-compose; Grafana queries this Prometheus."""
    services = load(ROOT / "docker-compose.yml")["services"]
    [scrape] = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    [source] = load(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    [provider] = load(GRAFANA / "provisioning" / "dashboards" / "sealpost.yml")["providers"]
    provision = (ROOT / "src" / "stack" / "provision.py").read_text(encoding="utf-8")
    host, _, port = scrape["static_configs"][0]["targets"][0].partition(":")

    assert {scrape["job_name"]} == set(re.findall(r'job="(\w+)"', " ".join(expressions())))
    assert {host, "prometheus", "grafana"} <= set(services)
    assert f'metrics_listen=["{port}"]' in provision
    assert "http://prometheus:9090" == source["url"]
    assert set.intersection(*(set(services[name]["networks"]) for name in ("nginx", "prometheus", "grafana")))
    assert {source["uid"]} == {panel["datasource"]["uid"] for panel in panels()}
    assert f"{provider['options']['path']}:ro,z" in "".join(services["grafana"]["volumes"])
    assert source["jsonData"]["timeInterval"] == load(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]


def test_every_panel_is_complete() -> None:
    """Each has a title, a description, a unit and a datasource, and a built-in type."""
    ids = [panel["id"] for panel in dashboard()["panels"]]
    titles = [panel["title"] for panel in dashboard()["panels"]]

    assert len(ids) == len(set(ids))
    assert len(titles) == len(set(titles))
    for panel in panels():
        unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]

        assert panel["type"] in CORE_PANELS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert unit, panel["title"]
        assert [target["refId"] for target in panel["targets"]] == sorted({one["refId"] for one in panel["targets"]})


def test_no_panel_covers_another() -> None:
    """Each row of panels fills the width, and rows do not overlap."""
    places = [panel["gridPos"] for panel in dashboard()["panels"]]

    for place in places:
        assert place["x"] + place["w"] <= 24
        assert sum(other["w"] for other in places if other["y"] == place["y"]) == 24
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_dashboard_is_self_contained() -> None:
    """No address, plug-in, or value that an operator would have to fill in."""
    text = (GRAFANA / "dashboards" / "sealpost.json").read_text(encoding="utf-8")

    assert not re.search(r"https?://|__inputs|__requires|\$\{DS_", text)
    assert [] == dashboard()["links"] == dashboard()["annotations"]["list"]

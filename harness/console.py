"""What the terminal shows: bars while work goes on (plain lines where there is no terminal), tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.dataset import Dataset
from harness.picks import Pick
from harness.plan import Forecast
from harness.progress import Advance
from harness.prompts import Finding
from harness.result import Leaderboard
from harness.senses import Senses
from harness.verdict import Verdict
from reports.choosing import constraints, costs_at, held_back, row
from reports.costs import PAID, paid
from reports.senses import headings, rows, sentences
from reports.table import NOTHING, Column

if TYPE_CHECKING:
    from rich.console import Console

_LINE_SECONDS = 5.0  # between two plain lines of one stage
_NAME = 48  # characters of a model's name in one line
_TASK = 18  # characters of "what for" on a line
_MEASURES = 2  # columns of measures that fit a terminal


class Lines:
    """Progress as plain lines on standard error, a few a minute."""

    @contextmanager
    def stage(self, label: str, items: int, weight: int) -> Iterator[Advance]:
        """Print how far the stage is, its rate and the time left, every few seconds and at its end."""
        began = last = time.monotonic()
        done = weighed = 0

        def advance(more: int, heavier: int) -> None:
            nonlocal last, done, weighed
            done, weighed = done + more, weighed + heavier
            now = time.monotonic()
            if done < items and now - last < _LINE_SECONDS:
                return
            last, seconds = now, max(now - began, 1e-9)
            left = f", {_duration(seconds * (weight - weighed) / max(weighed, 1))} left" if done < items else ""
            self.note(f"{label}: {done:,} of {items:,}, {done / seconds:,.0f} a second{left}")

        yield advance

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=sys.stderr, flush=True)


class Bars:
    """Progress as a bar with rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, label: str, items: int, weight: int) -> Iterator[Advance]:
        """Draw a bar whose length follows the weight and whose count follows the items."""
        from rich import progress

        if not items:
            yield lambda _items, _weight: None
            return
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[done]:,} of {task.fields[items]:,}, {task.fields[rate]:,.0f} a second,"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("left"),
        )
        began, done = time.monotonic(), 0
        with progress.Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(label, total=max(weight, 1), done=0, items=items, rate=0.0)

            def advance(more: int, heavier: int) -> None:
                nonlocal done
                done += more
                bar.update(task, advance=heavier, done=done, rate=done / max(time.monotonic() - began, 1e-9))

            yield advance
        self.note(f"{label}: {done:,} in {_duration(time.monotonic() - began)}")

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(text, markup=False, highlight=False)


def listener() -> Bars | Lines:
    """Bars where there is a terminal to draw them on, else lines."""
    return Bars() if sys.stderr.isatty() else Lines()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _choice(pick: Pick) -> list[str]:
    """A pick as cells of several lines: what for, choose and runner-up, measured and expected, costs, why."""
    task, name, measured, expected, runner_up, *costs, why = row(pick)
    if pick.result is None:
        return [task, name, measured, "", why]
    mean, interval = measured.rstrip(")").split(" (")
    usd, size, p95, licence = costs
    return [
        task,
        f"{name}\nrunner-up:\n{runner_up}",
        f"{mean}\n{interval}\nexpected {expected}",
        f"{usd} USD per million documents\n{size} bytes a document\np95 {p95} ms\nlicence {licence}",
        why,
    ]


def show_plan(dataset: Dataset, plans: Sequence[Forecast], spent: float, budget: float | None) -> None:
    """Print what an evaluation would take, a model a row, and why a number is not exact."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    title = f"{dataset.about.name}: {len(dataset.documents):,} documents, {len(dataset.queries):,} queries"
    table = Table(title=title, caption="~ estimated; tokens, money and time are for what is not cached yet")
    headings = ("model", "to embed", "cached", "tokens", "USD", "requests", "minutes", "documents cut", "tokens cut", "disk MB")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", overflow="fold")
    for plan in plans:
        about = "" if plan.exact else "~"
        usd = "unknown" if plan.usd is None else "0" if not plan.usd else f"{about}{plan.usd:.4f}"
        cut = [NOTHING if share is None else f"{about}{share:.1%}" for share in (plan.cut_documents, plan.cut_tokens)]
        minutes = NOTHING if plan.minutes is None else f"{plan.minutes:.1f}"
        requests = f"{plan.requests:,}" if plan.requests else NOTHING
        row = (f"{plan.texts:,}", f"{plan.cached:,}", f"{about}{plan.tokens:,}", usd, requests, minutes, *cut, f"{plan.bytes / 1e6:,.1f}")
        table.add_row(Text(plan.spec), *row)
    console.print(table)
    for plan in plans:
        if plan.why:
            console.print(f"~ {plan.spec}: {plan.why}", markup=False, highlight=False, soft_wrap=True)
    total = f"{sum(plan.usd or 0.0 for plan in plans):.4f} USD to come, {spent:.4f} USD spent on {dataset.about.name} so far"
    unknown = [plan.spec for plan in plans if plan.usd is None]
    console.print(f"{total}{'; price unknown: ' + ', '.join(unknown) if unknown else ''}", markup=False, highlight=False, soft_wrap=True)
    if budget is not None:
        fits = spent + sum(plan.usd or 0.0 for plan in plans) <= budget and not unknown
        console.print(f"a budget of {budget} USD {'will do' if fits else 'will not do'}", markup=False, highlight=False)


def show_prompts(found: Finding) -> None:
    """Print the trials of a prompt check and what they come to."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    if found.trials:
        title = f"{found.spec}: {found.queries:,} queries, {found.documents:,} documents"
        caption = "p: that the relevant documents rank higher by chance, adjusted for all prompts (Holm); = changes no vector of that role"
        table = Table(title=Text(title), caption=caption)
        for place, heading in enumerate(("prompts", "for queries / for documents", "nDCG@10 (95 %)", "gain (95 %)", "p", "")):
            table.add_column(heading, justify="right" if 2 <= place <= 4 else "left", overflow="fold")
        for trial in found.trials:
            gain, chance = trial.gain, NOTHING if trial.p is None else f"{trial.p:.4f}"
            gained = f"{gain.difference:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" if gain else NOTHING
            said = "better" if trial.better else ", ".join(f"= {role}" for role in trial.same)
            mean = f"{trial.mean:.3f} ({trial.low:.3f} to {trial.high:.3f})"
            table.add_row(trial.label, Text(str(trial.prompts)), mean, gained, chance, said)
        console.print(table)
    said = "warning: " if found.warn else ""
    console.print(f"{said}{found.spec}: {found.sentence()}", markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def show(board: Leaderboard, verdict: Verdict, columns: list[Column]) -> None:
    """Print the leaderboard, the table "choosing a model" and the models without a result on standard output."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    measures = list(board.results[0].scores)[_MEASURES:] if board.results else []  # the page has them all
    used = [c for c in columns if c.heading not in measures and any(c.text(result) != NOTHING for result in board.results)]
    table = Table(title=f"{board.dataset['name']}: {board.dataset['documents']:,} documents, {board.dataset['queries']:,} queries")
    for place, column in enumerate(used):
        if place:
            table.add_column(column.heading, justify="right", no_wrap=True)
        else:  # options can make a name long: it is folded before a number is cut
            table.add_column(column.heading, overflow="fold", max_width=_NAME)
    chosen = {pick.result.identity for pick in verdict.picks if pick.result}
    shown = [result for result in board.results if result.plain or result.identity in chosen]
    for result in shown:
        table.add_row(*(Text(column.text(result)) for column in used), style="dim" if result.floor else None)
    if board.results:
        console.print(table)
    if len(shown) < len(board.results):
        console.print(
            f"{len(board.results) - len(shown):,} more ways to keep and search these vectors are on the page and in leaderboard.csv"
        )
    picks = Table(title="Choosing a model", show_lines=True)
    picks.add_column("what for", max_width=_TASK)
    for heading in ("choose", f"{board.headline} (95 %)", "costs", "why"):
        picks.add_column(heading, overflow="fold")
    for pick in verdict.picks:
        picks.add_row(*map(Text, _choice(pick)))
    console.print(picks)
    said = [verdict.certainty, *held_back(verdict), *constraints(verdict), costs_at(verdict.needs, board.dataset["documents"])]
    for text in said:
        console.print(text, markup=False, highlight=False)
    for text in _asides(board):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _asides(board: Leaderboard) -> Iterator[str]:
    """What stands below the tables: marks explained, what was paid, warnings, models without a result."""
    if not all(result.trained for result in board.results):
        yield "* the model was not trained to be cut at this dimension"
    for model, *figures in paid(board):
        told = [f"{heading} {figure}" for heading, figure in zip(PAID[1:], figures, strict=True) if figure != NOTHING]
        yield f"{model}: {', '.join(told)}"
    for remark in board.remarks:
        if remark.warn:
            yield f"warning: {remark.spec}: {remark.text}"
    for absence in board.absences:
        yield f"{absence.status}: {absence.spec}: {absence.reason}"


def show_senses(found: Senses) -> None:
    """Print how well each layer of each model tells senses apart, and the models that could not be studied."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table(title=f"{len(found.pairs)} pairs of sentences; AUC of same sense against another, by layer")
    for place, heading in enumerate(headings(found)):
        table.add_column(heading, justify="right" if place > 1 else "left", no_wrap=True)
    for line in rows(found):
        if line[0] and table.rows:
            table.add_section()
        table.add_row(*map(Text, line))
    if found.studies:
        console.print(table)
    for said in [*sentences(found), *(f"{one.status}: {one.spec}: {one.reason}" for one in found.absences)]:
        console.print(said, markup=False, highlight=False, soft_wrap=True)

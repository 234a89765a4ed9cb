"""What the terminal shows: bars while work goes on (plain lines where there is no terminal), tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.picks import Pick
from harness.progress import Advance
from harness.result import Leaderboard
from harness.verdict import Verdict
from reports.choosing import constraints, costs_at, held_back, row
from reports.table import NOTHING, Column

_LINE_SECONDS = 5.0  # between two plain lines of one stage
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


def show(board: Leaderboard, verdict: Verdict, columns: list[Column]) -> None:
    """Print the leaderboard, the table "choosing a model" and the models without a result on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=160)
    measures = list(board.results[0].scores)[_MEASURES:] if board.results else []  # the page has them all
    used = [c for c in columns if c.heading not in measures and any(c.text(result) != NOTHING for result in board.results)]
    table = Table(title=f"{board.dataset['name']}: {board.dataset['documents']:,} documents, {board.dataset['queries']:,} queries")
    for place, column in enumerate(used):
        table.add_column(column.heading, justify="right" if place else "left", no_wrap=True)
    for result in board.results:
        table.add_row(*(Text(column.text(result)) for column in used), style="dim" if result.floor else None)
    if board.results:
        console.print(table)
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
    if not all(result.trained for result in board.results):
        console.print("* the model was not trained to be cut at this dimension", markup=False, highlight=False)
    for absence in board.absences:
        console.print(f"{absence.status}: {absence.spec}: {absence.reason}", markup=False, highlight=False, soft_wrap=True)

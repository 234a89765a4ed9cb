"""A cell's file: what is written comes back, and what nobody judged is null in it, for whoever reads it with other tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from boards import cell
from pyarrow import feather

from harness import result
from harness.metrics import UNJUDGED


def test_rankings_of_any_length_come_back_and_unjudged_is_null(tmp_path: Path) -> None:
    found = [[], ["d1"], ["d2", "d0", "d1"]]
    grades = [[], [UNJUDGED], [3, UNJUDGED, -1]]
    one = replace(
        cell("made/a", [0.5, 0.0, 1.0]),
        documents=tuple(np.array(line, dtype=object) for line in found),
        ranking_scores=tuple(np.arange(len(line), dtype=np.float32) for line in found),
        grades=tuple(np.array(line, dtype=np.int32) for line in grades),
    )
    path = tmp_path / "cell.arrow"
    result.write(one, path)
    assert feather.read_table(path).column("grades").to_pylist() == [[], [None], [3, None, -1]]
    back = result.read(path)
    assert [line.tolist() for line in back.grades] == grades
    assert [line.tolist() for line in back.documents] == found
    assert [line.tolist() for line in back.ranking_scores] == [[], [0.0], [0.0, 1.0, 2.0]]


def test_a_cell_without_queries_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "cell.arrow"
    result.write(cell("made/a", []), path)
    assert result.read(path).grades == ()

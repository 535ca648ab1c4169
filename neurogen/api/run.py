"""A run that `neurogen.fit` started: its results, plots, generator and zoo, and how a notebook shows it.

in:  the last step of the run's graph
out: tables as pandas.DataFrame, plots as pictures, networks as torch modules
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neurogen.errors import UserError, one_of
from neurogen.report import tables
from neurogen.report.formats import read_rows
from neurogen.report.html import data_uri, main_plot, table_html
from neurogen.report.table import spread
from neurogen.study.rows import COLUMNS, Row

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image

    from neurogen.api.generator import LoadedGenerator
    from neurogen.api.zoo import LoadedZoo
    from neurogen.study.pipeline import Aggregate, Evaluate


class Run:
    """One experiment, finished or not. Whatever needs a step that is not done raises UserError."""

    def __init__(self, last: Aggregate, device: str = "auto") -> None:
        self.last, self.device = last, device

    @property
    def folder(self) -> Path:
        """Where tables, reports and plots are."""
        return self.last.folder

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.last.is_done

    @property
    def results(self) -> pandas.DataFrame:
        """The table of the run: a row for each kind of network, accuracy in percent.

        The index has the names of results.json, such as classical, zoo_mean_network and generated.
        """
        import pandas

        rows = {name: {"network": tables.label_of(name), **asdict(p)} for name, p in self._row.populations.items()}
        return pandas.DataFrame.from_dict(rows, orient="index")

    @property
    def row(self) -> pandas.Series:
        """The row of results.csv: the settings, and what was measured in one line. Rows of several runs make a table:
        pandas.DataFrame([run.row for run in runs])."""
        import pandas

        return pandas.Series({name: getattr(self._row, name) for name in COLUMNS})

    @property
    def _row(self) -> Row:
        self._require_done()
        (row,) = read_rows(self.folder)
        return row

    @property
    def evaluation(self) -> Evaluate:
        """The step that evaluated the generator; its fields lead to all others."""
        (evaluation,) = self.last.evaluations
        return evaluation

    @cached_property
    def generator(self) -> LoadedGenerator:
        """The finished generator, loaded when it is first asked for."""
        from neurogen.api.generator import load

        self._require_done()
        return load(self.evaluation.tune.folder, device=self.device)

    @cached_property
    def zoo(self) -> LoadedZoo:
        """All reference networks, aligned as the run aligned them, loaded when they are first asked for."""
        from neurogen.api.zoo import zoo_of_run

        self._require_done()
        return zoo_of_run(self.evaluation.zoo)

    @property
    def plots(self) -> tuple[str, ...]:
        """The names of the plots, for `plot`."""
        return tuple(sorted({path.stem.partition("-")[0] for path in self.folder.glob("*.png")}))

    def plot(self, name: str = "curves") -> Image:
        """A plot as a picture, which a notebook shows. Raises UserError for a name that is not in `plots`."""
        from PIL import Image

        return Image.open(self._plot_path(name))

    def _plot_path(self, name: str) -> Path:
        self._require_done()
        one_of("plot", name, self.plots)
        return next(path for path in sorted(self.folder.glob(f"{name}*.png")) if path.stem.partition("-")[0] == name)

    def _require_done(self) -> None:
        if not self.is_done:
            raise UserError(f"the run in {self.folder} is not finished; call fit again to go on with it")

    def __repr__(self) -> str:
        if not self.is_done:
            return f"Run({self.folder}: not finished)"
        generated = spread(self._row.generated_mean, self._row.generated_std)
        return f"Run({self.folder}: generated {generated} %)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of the run, and its main plot."""
        if not self.is_done:
            return f"<p>{self!r}</p>"
        title, picture = f"<p><b>{tables.heading(self._row)}</b></p>", main_plot(self.folder)
        image = f'<img src="{data_uri(picture)}" alt="learning curves" style="max-width: 100%">' if picture else ""
        return f"{title}{table_html([self._row])}{image}"

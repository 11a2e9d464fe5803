"""Every example, and the Python of the README and of pages of the documentation, run as they are."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


def python_of(page: str) -> str:
    """Return all Python of a page, as a reader would paste it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Run the Python of a page in an empty folder, and return the folder."""

    def paste(page: str) -> Path:
        monkeypatch.chdir(tmp_path)
        script = tmp_path / "pasted.py"
        script.write_text(python_of(page), encoding="utf-8")
        runpy.run_path(str(script), run_name="__main__")
        return tmp_path

    return paste


def test_python_of_the_readme_runs_as_pasted(
    paste: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paste("README.md")
    assert (folder / "vacancy-model" / "card.json").exists()
    error = float(re.search(r"mean absolute error ([0-9.]+) eV", capsys.readouterr().out).group(1))
    assert error < 0.24, "no better than predicting the median"


def test_python_of_the_page_on_probes_runs_as_pasted(paste: Callable[[str], Path]) -> None:
    assert (paste("docs/probe.md") / "vacancy-probe" / "card.json").exists()


def test_python_of_the_page_on_mixtures_runs_as_pasted(paste: Callable[[str], Path]) -> None:
    assert (paste("docs/mixture.md") / "vacancy-mixture" / "card.json").exists()


def test_python_of_the_page_on_composing_runs_as_pasted(paste: Callable[[str], Path]) -> None:
    folder = paste("docs/composing.md")
    assert (folder / "vacancy-composed" / "card.json").exists()
    assert (folder / "my-hub" / "bulk-modulus" / "card.json").exists()


def test_python_of_the_page_on_merging_prints_what_it_says(
    paste: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paste("docs/merging.md")
    text = (ROOT / "docs/merging.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    said = [block for kind, block in blocks if not kind]
    printed = capsys.readouterr().out
    assert len(said) == 2
    assert all(output in printed for output in said)


def test_python_of_the_page_on_fine_tuning_runs_as_pasted(
    paste: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paste("docs/fine-tuning.md")
    assert "'three_body'" in capsys.readouterr().out


def test_python_of_the_page_on_adapters_runs_as_pasted(paste: Callable[[str], Path]) -> None:
    folder = paste("docs/adapters.md")
    assert (folder / "my-modules" / "vacancy" / "card.json").exists()


def test_python_of_the_page_on_displays_runs_as_pasted(paste: Callable[[str], Path]) -> None:
    folder = paste("docs/inspection.md")
    assert (folder / "parity.png").exists()
    assert (folder / "runs.jsonl").exists()


def test_python_of_the_page_on_several_properties_runs_as_pasted(paste: Callable[[str], Path]) -> None:
    assert (paste("docs/mpt.md") / "three-properties" / "card.json").exists()

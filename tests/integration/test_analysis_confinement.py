"""Where a method may write: its output and what is thrown away; nothing of the store, of the user or of others."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyff_dagster.analysis import FunctionFailed, NotebookFailed
from dyff_dagster.processes import can_confine
from dyff_dagster.store import Commit
from tests.integration.analysis_support import Bench, until

confining = pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock")

METHOD = """
import os, pathlib, subprocess, sys, tempfile
import pyarrow as pa
def judge(arguments, rows, answers):
    from dyff_dagster import AnalysisContext
    output = AnalysisContext().output_path
    ACT
    yield answers.to_table().drop(["responses"]).append_column("correct", [[True] * 8])
"""
HINT = "(it may write to ctx.output_path, to its working directory and to TMPDIR alone)"


class Site:
    """A bench with something published, a home directory, and a neighbour in the store."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.home = root / "home"
        self.home.mkdir()
        self.neighbour = Path(self.bench.store.root) / "neighbour" / "data.parquet"
        self.neighbour.parent.mkdir(parents=True)
        self.neighbour.write_text("somebody else's")
        self.act("pass")
        self.bench.run(self.bench.measurement())

    def act(self, code: str) -> None:
        self.bench.function(METHOD.replace("ACT", code.replace("ROOT", repr(str(self.bench.root)))))

    def run(self) -> Commit:
        return self.bench.run(self.bench.measurement())

    def files(self) -> dict[str, bytes]:
        """All that lies there, but for the log, the method's code and who holds the lock."""
        left = (".dyff/logs.txt", ".dyff/lock", "scoring_under_test.py")
        return {
            str(path): path.read_bytes()
            for path in self.bench.root.rglob("*")
            if path.is_file() and not str(path).endswith(left) and "cache" not in path.parts
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(root / "home"))
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield Site(root)


@confining
@pytest.mark.parametrize(
    "code",
    [
        "pathlib.Path('root/rows/data.parquet').write_bytes(b'x')",
        "os.unlink('root/answers/answers.parquet')",
        "pathlib.Path('root/rows/more.parquet').write_bytes(b'x')",
        "pathlib.Path('root/module/scoring_under_test.py').write_text('x')",
        "os.makedirs('root/module/__pycache__')",
        "(pathlib.Path(ROOT) / 'store/neighbour/data.parquet').write_text('x')",
        "(pathlib.Path(ROOT) / 'store/another').mkdir()",
        "(output.resolve().parent / 'x').write_text('x')",
        "(output.resolve().parents[1] / 'commits/00000009.json').write_text('x')",
        "(output.resolve().parents[2] / 'index.html').write_text('x')",
        "os.unlink(next((output.resolve().parents[1] / 'versions').rglob('*.parquet')))",
        "pathlib.Path('../outside-of-the-working-directory').write_text('x')",
        "pathlib.Path(os.environ['HOME'], 'x').write_text('x')",
        "pathlib.Path(os.environ['HOME'], '.config').mkdir()",
        "pathlib.Path('/tmp/dyff-dagster-outside').write_text('x')",
        "os.symlink(ROOT, 'there'); pathlib.Path('there/x').write_text('x')",
        "subprocess.run([sys.executable, '-c', 'open(\"root/rows/data.parquet\", \"wb\")'], check=True)",
    ],
)
def test_what_is_not_its_own_stays_as_it_is(site: Site, code: str) -> None:
    site.act(code)
    published, before = site.bench.store.current("measured"), site.files()
    with pytest.raises(FunctionFailed) as raised:
        site.run()
    assert "at scoring_under_test.py:7" in str(raised.value)
    if not code.startswith("subprocess"):  # of a child the method sees how it ended
        assert f"raised PermissionError at scoring_under_test.py:7 {HINT}; " in str(raised.value)
    assert site.files() == before
    assert site.bench.store.current("measured") == published
    assert not Path("/tmp/dyff-dagster-outside").exists()


@pytest.mark.parametrize(
    "code",
    [
        "(output / 'beside.txt').write_text('x')",
        "(output / 'a').mkdir(); (output / 'a' / 'b').write_text('x'); os.replace(output / 'a' / 'b', output / 'c')",
        "pathlib.Path('in-the-working-directory').write_text('x')",
        "tempfile.TemporaryFile().write(b'x')",
        "pathlib.Path('x').write_text('x'); os.replace('x', os.path.join(tempfile.mkdtemp(), 'y'))",
        "pathlib.Path(os.environ['XDG_CACHE_HOME'], 'models').mkdir()",
        "pathlib.Path('/dev/null').write_text('x')",
        "import multiprocessing as m; m.Pool(2).map(abs, [1, 2])",
        "from IPython.utils.process import system; assert system('echo x > made') == 0",
        "import matplotlib.pyplot as plt; plt.plot([1]); plt.savefig(output / 'plot.png')",
    ],
)
def test_what_is_its_own_can_be_written(site: Site, code: str) -> None:
    site.act(code)
    commit = site.run()
    assert commit.facts.rows == 8
    assert {name for name in commit.files if not name.endswith(".parquet")} <= {"beside.txt", "c", "plot.png"}


@confining
def test_a_notebook_writes_no_further_than_a_function(site: Site) -> None:
    bench = site.bench
    bench.notebook(
        "import os, pathlib, subprocess\nfrom dyff_dagster import AnalysisContext\nctx = AnalysisContext()",
        "pathlib.Path('beside.txt').write_text('its own copy of the module')",
        f"""
refused = []
for place in ("{bench.root}/store/neighbour/data.parquet", os.path.expanduser("~/x"), "../../../x", "/tmp/dyff-x",
              ctx.local_storage_root / "rows/data.parquet", ctx.local_storage_root / "module/case.ipynb"):
    try:
        pathlib.Path(place).write_text("x")
    except PermissionError:
        refused.append(place)
print("refused", len(refused))
print("shell", subprocess.run(["sh", "-c", "echo x > {bench.root}/x"]).returncode != 0)
""",
        "(ctx.local_storage_root / 'rows').joinpath('data.parquet').unlink()",
    )
    before = site.files()
    with pytest.raises(NotebookFailed, match=r"\(cell 4\): it raised PermissionError \(it may write to ctx"):
        bench.run(bench.safety_case())
    kept = Path(bench.store.working("case") / "failed" / "notebook.ipynb")
    assert "refused 6" in kept.read_text() and "shell True" in kept.read_text()
    assert {name: data for name, data in site.files().items() if name != str(kept)} == before
    assert not (bench.module / "beside.txt").exists()


@confining
def test_a_secret_of_whoever_started_it_is_not_to_be_had(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its own environment nor in that of the processes around it."""
    monkeypatch.setenv("MY_API_TOKEN", "hunter2-of-the-parent")
    site.act(
        """
    found = 0
    for entry in pathlib.Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                found += b'hunter2-of-the-parent' in (entry / 'environ').read_bytes()
            except OSError:
                pass
    assert not found and 'MY_API_TOKEN' not in os.environ
"""
    )
    published = site.bench.store.current("measured")
    # A process that was started with the secret, as Dagster's is: a variable that is set later is not in /proc.
    step = multiprocessing.get_context("spawn").Process(target=run_again, args=(site.bench.root,))
    step.start()
    environment = Path(f"/proc/{step.pid}/environ")
    until(lambda: b"hunter2-of-the-parent" in environment.read_bytes())
    step.join(120)
    assert step.exitcode == 0
    current = site.bench.store.current("measured")
    assert published is not None and current is not None and current.sequence == published.sequence + 1


def run_again(root: Path) -> None:
    bench = Bench(root, fresh=False)
    bench.run(bench.measurement())


@confining
def test_temporary_files_go_with_the_analysis(site: Site) -> None:
    site.act("print('made', tempfile.mkdtemp())")
    site.run()
    log = Path(site.bench.store.working("measured") / "logs.txt").read_text()
    (made,) = [line.removeprefix("made ") for line in log.splitlines() if line.startswith("made ")]
    assert made.startswith(os.path.realpath(os.environ.get("TMPDIR", "/tmp")))
    assert not Path(made).exists()

"""Methods that mean ill: what they leave behind is neither followed nor waited for nor believed.

They can ruin their own result. They come to nothing that is somebody else's, and to no page that runs something or
says of itself that it was made from something else.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import stat
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.analysis import AnalysisError, Limits, NotebookFailed
from dyff_dagster.processes import can_confine
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import Measurement, SafetyCase
from dyff_dagster.store import Commit
from tests.integration.analysis_support import Bench, is_gone, until
from tests.integration.test_analysis_page_functions import case as page_function

SECRET = "hunter2-of-the-parent"

FUNCTION = """
import json, os, pathlib, signal, socket, subprocess, sys, time
import pyarrow as pa
scratch = pathlib.Path(os.environ["DYFF_AUDIT_ANALYSIS_CONFIG_FILE"]).parent
output = scratch / "root" / "measured"
def judge(arguments, rows, answers):
    ACT
    yield answers.to_table().drop(["responses"]).append_column("correct", [[True] * 8])
"""
NOTEBOOK = """
import json, os, pathlib, signal, subprocess, sys, time
from dyff_dagster import AnalysisContext
ctx = AnalysisContext()
scratch = pathlib.Path(os.environ["DYFF_AUDIT_ANALYSIS_CONFIG_FILE"]).parent
"""


def function(bench: Bench, code: str) -> Measurement:
    bench.function(FUNCTION.replace("ACT", code))
    return bench.measurement()


def ended(bench: Bench, entity: Measurement | SafetyCase, seconds: float = 60.0) -> Commit | BaseException:
    """What a run comes to; it fails where the run does not end, which a test of a hang must be able to say."""
    came_to: list[Commit | BaseException] = []

    def run() -> None:
        try:
            came_to.append(bench.run(entity, limits=Limits(seconds=20)))
        except BaseException as error:
            came_to.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert came_to, "it hangs, and its limit of time is not kept"
    return came_to[0]


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (
            "os.symlink('/dev/zero', scratch / 'outcome.json'); os.mkfifo(scratch / 'progress.jsonl'); "
            "time.sleep(600)",
            "ended after 20 seconds",
        ),
        ("os.mkfifo(scratch / 'outcome.json'); os._exit(0)", "ended with exit status 0 before it was done"),
        ("(scratch / 'outcome.json').write_text('{}'); os._exit(0)", "its method wrote no rows"),
        ("os.mkfifo(output / 'pipe')", "pipe is neither a file nor a directory; leave it out"),
        ("(output / '.dyff/scores.json').mkdir()", "scores.json of the analysis is no JSON"),
        ("(output / '.dyff/lock').write_text('x')", "an artifact may not be named .dyff/lock"),
        ("os.link(scratch / 'root/rows/data.parquet', output / 'hard')", "raised OSError at"),
    ],
)
def test_what_a_method_leaves_is_neither_followed_nor_waited_for(
    tmp_path: Path, code: str, named: str
) -> None:
    if "os.link" in code and not can_confine():
        pytest.skip("this kernel has no Landlock")
    bench = Bench(tmp_path)
    error = ended(bench, function(bench, code))
    assert isinstance(error, DyffError), error
    assert named in str(error) and str(error).startswith("measured: ") and "\n" not in str(error)
    assert bench.store.current("measured") is None
    assert bench.leftovers("measured") == []


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (
            "raise type('the patient\\nis 41', (Exception,), {})",
            "raised an exception at scoring_under_test.py:7",
        ),
        (
            "exec(compile('raise KeyError', str(scratch / 'root/module/the patient is 41'), 'exec'))",
            "raised KeyError at scoring_under_test.py:7",
        ),
        (
            "(scratch / 'outcome.json').write_text(json.dumps({'ename': 'patient 41', 'where': ''})); os._exit(1)",
            "raised an exception; the traceback",
        ),
    ],
)
def test_an_exception_that_is_named_after_a_row_is_not_repeated(
    tmp_path: Path, code: str, named: str
) -> None:
    bench = Bench(tmp_path)
    error = ended(bench, function(bench, code))
    assert isinstance(error, DyffError)
    assert named in str(error) and "patient" not in str(error) and "\n" not in str(error)


def test_an_exception_of_a_notebook_that_is_named_after_a_secret_is_not_repeated(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(NOTEBOOK, "raise type('the patient is 41', (Exception,), {})('the patient is 41')")
    with pytest.raises(NotebookFailed, match=r"\(cell 2\): it raised an exception; see") as raised:
        bench.run(bench.safety_case())
    assert "patient" not in str(raised.value)


def run_case(root: Path) -> None:
    bench = Bench(root, fresh=False)
    try:
        bench.run(bench.safety_case(), limits=Limits(seconds=60))
        (root / "came-to").write_text("a commit")
    except DyffError as error:
        (root / "came-to").write_text(str(error))


def run_elsewhere(root: Path) -> str:
    """Run the safety case in a process that was started with the secret, as Dagster's is."""
    step = multiprocessing.get_context("spawn").Process(target=run_case, args=(root,))
    step.start()
    step.join(180)
    assert step.exitcode == 0
    return (root / "came-to").read_text()


def bytes_below(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


LEAKS = """
environment = "/proc/self/environ"
(scratch / "outcome.json").write_text(json.dumps({"ename": "KeyError", "cell": 1}))
(scratch / "executed.ipynb").unlink(missing_ok=True)
os.symlink(environment, scratch / "executed.ipynb")
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""


def test_a_link_does_not_make_its_reader_read_its_own_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook cannot read the environment of who started it; nor can it let them put it into the store."""
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    bench = Bench(tmp_path)
    bench.notebook(NOTEBOOK, LEAKS)
    assert run_elsewhere(tmp_path).startswith(
        "case: notebook case.ipynb failed (cell 1): it raised KeyError; the log"
    )
    assert SECRET.encode() not in bytes_below(Path(bench.store.root))


@pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock")
def test_a_notebook_reads_no_environment_of_the_processes_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    bench = Bench(tmp_path)
    bench.notebook(
        NOTEBOOK,
        """
looked, refused = 0, 0
for entry in pathlib.Path("/proc").iterdir():
    for name in ("environ", "mem", "maps", "cwd/x", "root/proc/1/environ", "fd"):
        if entry.name.isdigit():
            try:
                looked += 1
                data = os.listdir(entry / name) if name == "fd" else (entry / name).open("rb").read(1 << 20)
                assert b"of-the-parent" not in bytes(str(data), "utf-8"), entry
            except OSError:
                refused += 1
parent = int(pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
step = int(pathlib.Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
for above in (parent, step):
    done = subprocess.run(["cat", f"/proc/{above}/environ"], capture_output=True)
    assert done.returncode != 0 and b"of-the-parent" not in done.stdout
assert looked > refused > 2
print("looked around")
""",
    )
    assert run_elsewhere(tmp_path) == "a commit"
    assert b"looked around" in bytes_below(Path(bench.store.root))
    assert SECRET.encode() not in bytes_below(Path(bench.store.root))


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
SINKS = f"""
import matplotlib.pyplot as plt
S = {SCRIPT!r}
ctx.title(S, subtitle=S)
ctx.figure(plt.figure(figsize=(1, 1)), caption=S, alt=S, headline=True)
ctx.table([{{S: S, "n": 1}}, {{S: '"' + S, "n": 2}}], caption=S)
ctx.score("auc", 0.5, 0.4, 0.6, 9, title=S, summary=S, text=S, unit=S, format="{{quantity:.2f}} {{unit}}")
ctx.conclusion(S, True)
"""


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def is_inert(page: str) -> bool:
    elements = Elements(page).found
    return all(
        tag not in ("script", "iframe", "form", "base")
        and not any(name.startswith("on") for name in attributes)
        and (tag != "img" or (attributes.get("src") or "data:image/").startswith("data:image/"))
        for tag, attributes in elements
    )


@pytest.mark.parametrize("kind", ["notebook", "function"])
def test_a_script_in_whatever_is_shown_is_text(tmp_path: Path, kind: str) -> None:
    bench = Bench(tmp_path)
    entity = bench.safety_case(name=SCRIPT, description=SCRIPT)
    if kind == "notebook":
        bench.notebook(
            NOTEBOOK,
            SINKS,
            f"#md {SCRIPT}",
            "from IPython.display import HTML, Markdown, display\ndisplay(HTML(S), Markdown(S)); print(S); S",
        )
    else:
        body = (NOTEBOOK + SINKS + "yield S").replace("\n", "\n    ")
        entity = page_function(bench, f"def argue(arguments, rows, answers):\n    {body}\n").model_copy(
            update={"name": SCRIPT, "description": SCRIPT}
        )
    commit = bench.run(entity)
    page = (commit.path / "index.html").read_text("utf-8")
    assert is_inert(page)
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8
    assert commit.facts.conclusion == SCRIPT


FORGERIES = {
    "a page": "(ctx.output_path / 'index.html').write_text('<script>alert(1)</script>')",
    "a script": "content(body='<p>x</p><script>alert(1)</script>')",
}
FORGING = """
def content(**parts):
    text = {"title": "", "subtitle": "", "lead": "", "scores": "", "body": ""}
    (scratch / "content.json").write_text(json.dumps({**text, **parts}))
(scratch / "outcome.json").write_text("{}")
(ctx.output_path / "notebook.ipynb").write_text("{}")
"""


@pytest.mark.parametrize("what", FORGERIES)
def test_a_page_that_was_written_past_us_is_not_published(tmp_path: Path, what: str) -> None:
    bench = Bench(tmp_path)
    bench.notebook(NOTEBOOK + FORGING + FORGERIES[what] + "\nos.kill(os.getppid(), 9); time.sleep(60)")
    error = ended(bench, bench.safety_case())
    assert isinstance(error, AnalysisError), error
    assert str(error).startswith("case: ") and "\n" not in str(error)
    assert re.search("ended without a page|its page was written past dyff-dagster", str(error)), error
    assert bench.store.current("case") is None


def test_whatever_stands_on_a_page_what_it_was_made_from_is_said_by_us(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("1")
    honest = (bench.run(bench.safety_case()).path / "index.html").read_text("utf-8")
    forged = "content(title='<b>Mine</b>', body='<p>Everything was fine.</p>')"
    bench.notebook(NOTEBOOK + FORGING + forged + "\nos.kill(os.getppid(), 9); time.sleep(60)")
    commit = ended(bench, bench.safety_case())
    assert isinstance(commit, Commit)
    page = (commit.path / "index.html").read_text("utf-8")
    assert "<h1>&lt;b&gt;Mine&lt;/b&gt;</h1>" in page and "Everything was fine." in page
    policy = re.compile(r"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'[^>]*>")
    assert policy.findall(page) == policy.findall(honest) != []
    roles = re.compile(r"<dt>([^<]*)</dt>")
    made_from = {role for role in roles.findall(honest) if role != "Packages"}
    assert made_from <= set(roles.findall(page))


def test_a_score_of_another_analysis_is_not_published_as_this_ones(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    cell = NOTEBOOK + "ctx.score('auc', 0.9, 0.8, 0.95, 8)\npath = ctx.output_path / '.dyff/scores.json'\n"
    cell += "found = json.loads(path.read_text()); score = found['scores'][0]\n"
    cell += "CHANGE\npath.write_text(json.dumps(found))"
    for change, named in (
        (
            "score['analysis'] = 'another'",
            r"score 'auc' is said to be of another analysis; it must be 'case'",
        ),
        ("score['metadata']['refs']['method'] = 'm'", r"score 'auc' is said to be of another method"),
        ("score['metadata'] = score['analysis'] = None", ""),
        ("pass", ""),
    ):
        bench.notebook(cell.replace("CHANGE", change))
        if named:
            with pytest.raises(AnalysisError, match=rf"^case: {named}"):
                bench.run(bench.safety_case())
        else:
            assert [score.value for score in bench.run(bench.safety_case()).facts.scores] == [0.9]


LINGERS = """
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        pathlib.Path(sys.argv[1]).write_text(f"pid {os.getpid()} end")
        while True:
            for path in sys.argv[2:]:
                try:
                    pathlib.Path(path).write_text("overwritten")
                except OSError:
                    pass
            time.sleep(0.001)
"""
LEAVES = """
subprocess.run([sys.executable, "-c", PROGRAM, str(scratch / "lingers"), *PLACES])
while not (scratch / "lingers").exists() or "end" not in (scratch / "lingers").read_text():
    time.sleep(0.01)
print((scratch / "lingers").read_text())
""".replace("PROGRAM", repr(LINGERS))


@pytest.mark.parametrize("kind", ["notebook", "function"])
def test_a_process_that_is_left_behind_is_gone_before_anything_is_published(
    tmp_path: Path, kind: str
) -> None:
    """It goes on writing where the result is made, until it is ended; what is published is whole and stays so."""
    bench = Bench(tmp_path)
    entity: Measurement | SafetyCase
    if kind == "notebook":
        places = "[str(ctx.output_path / name) for name in ('index.html', 'more.txt')]"
        bench.notebook(NOTEBOOK + LEAVES.replace("PLACES", places), "ctx.score('auc', 0.5)")
        entity = bench.safety_case()
    else:
        code = LEAVES.replace("PLACES", "[str(output / 'more.txt')]")
        entity = function(bench, code.replace("\n", "\n    "))
    commit = ended(bench, entity)
    assert isinstance(commit, Commit), commit
    kept = Path(bench.store.working(entity.id) / "logs.txt").read_text()
    if kind == "notebook":
        kept = (commit.path / "notebook.ipynb").read_text()
    found = re.search(r"pid (\d+) end", kept)
    assert found
    until(lambda: is_gone(int(found[1])), 10)
    assert bench.store.intact(commit)
    files: dict[str, Any] = commit.files
    assert set(files) >= {"more.txt"}
    if kind == "notebook":
        page = (commit.path / "index.html").read_text("utf-8")
        assert page.startswith("<!DOCTYPE html>") and "overwritten" not in page and "0.500" in page
    modes = {path.stat().st_mode & 0o222 for path in Path(commit.path).rglob("*") if path.is_file()}
    assert modes == {0}
    assert json.dumps(sorted(files)) and not any(
        stat.S_ISFIFO(os.lstat(path).st_mode) for path in Path(commit.path).rglob("*")
    )

"""What the table and the lines beside it say."""

from neural3d.batch.book import Book, Job, Options
from neural3d.batch.needs import GIB, Room
from neural3d.cli.batch import Report, print_plan, table
from neural3d.cli.console import print_table


def make_book(folder) -> Book:
    figures = {"photos": 9, "placed": 8, "psnr": 27.314, "files": ["a/a.glb"]}
    jobs = [
        Job("a", folder / "a", "done", 1, seconds=61.2, figures=figures),
        Job("b", folder / "b", "running", 2, 1, "train", "node7", "train: killed"),
        Job("c", folder / "c", "failed", 3, 3, error="too [red]dark"),
        Job("d", folder / "d", "running", 1),
        Job("e", folder / "e"),
    ]
    (folder / "b").mkdir()
    (folder / "b" / "log.txt").write_text("$ neural3d train\nstep 50  loss 0.1\n\n")
    return Book(folder, Options(), jobs)


def test_each_capture_has_its_row(tmp_path, capsys):
    book = make_book(tmp_path)
    print_table(table(book, book.jobs))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in capsys.readouterr().out.splitlines()]
    rows = {row[0]: row[1:] for row in rows if len(row) == 7}
    assert rows["a"] == ["done", "1", "8 of 9", "27.31", "61", "a/a.glb"]
    assert rows["b"][:2] == ["running", "2"] and rows["b"][-1].startswith("train on node7:")
    assert rows["c"] == ["failed", "3", "", "", "0", "too [red]dark"]
    assert rows["d"][-1] == "waits for room" and rows["e"][0] == "waiting"


def test_what_runs_and_what_failed_is_shown_meanwhile(tmp_path, capsys):
    report = Report(make_book(tmp_path))
    shown = report.table()
    assert list(shown.columns[0].cells) == ["b", "d", "c"]
    assert shown.caption == "1 done, 2 running, 1 waiting, 1 failed"
    report.last_line -= 3600
    report.show()
    assert "1 failed | b: step 50  loss 0.1 | d: " in capsys.readouterr().out


def test_what_each_takes_is_said_before(tmp_path, capsys):
    print_plan(make_book(tmp_path), [Room(4, GIB, 1), Room(4, 3 * GIB, 1)], 2)
    said = capsys.readouterr().out
    assert "5 captures on 2 machines, 1 done before; each takes 4 cores, a GPU and, by forecast, up to 3.0 GiB" in said
